"""The posts and pages of the example blog, and how old each is when the demo is created."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Text:
    """A post or a page. `days_old` counts back from the day on which the demo is created."""

    slug: str
    title: str
    days_old: int
    body: str
    published: bool = True


POSTS = (
    Text(
        slug="what-counts-as-a-page-view",
        title="What counts as a page view",
        days_old=84,
        body="""\
Every counter begins with a decision that nobody sees: what is one? This site says that a page view is a page that somebody asked for and got. That leaves out more than you would think.

A style sheet is not a page. Neither is a redirect, nor an address where nothing was found. The administration is the site’s own back room. A page that the browser fetches ahead, in case you click, has not been read by anybody, and a robot that reads all of them is not a reader.

## And then, again

What is left still holds the same person reloading the same page. So a view by the same visitor of the same path, within half an hour of one that was counted, is a repeat. It is not stored, and it moves no figure.

Two addresses are two pages, even when they show the same text: `/about` and `/about/` are counted apart. Guessing that they are one would be right nearly always, and wrong without a trace in the cases that are left.
""",
    ),
    Text(
        slug="why-the-window-does-not-slide",
        title="Why the window does not slide",
        days_old=70,
        body="""\
A visitor opens a page at ten o’clock and reloads it at a quarter past. The second look is a repeat, because it comes less than half an hour after the first. Now they reload it at ten thirty. Is that a repeat too?

If each look began a new half hour, it would be: a quarter of an hour is not long. But then a tab that reloads itself every twenty minutes would count once on the day it is opened and never again, and somebody who reads all afternoon would look the same as somebody who came by once.

So the window is measured from the view that was counted, and a repeat does not move it. At ten thirty, exactly half an hour later, it is a new view. One visitor can make at most two views of a page in an hour, however busy the reload button is, and at least one if they keep coming back.

## Late news

Views do not always arrive in order. One that happened at ten may be stored after one that happened at ten past. The window therefore looks both ways: what is less than half an hour from a stored view, before or after it, is a repeat.
""",
    ),
    Text(
        slug="half-past-midnight-in-kathmandu",
        title="Half past midnight in Kathmandu",
        days_old=55,
        body="""\
It is half past midnight in Kathmandu, and the day is thirty minutes old. By universal time it is a quarter to seven in the evening, and it is still yesterday.

A counter that keeps its days in universal time puts this view on the wrong one, together with everything that is read there before a quarter to six in the morning. The chart looks right; it is only about other days than the reader thinks.

A day on this site is a day in the zone that the site’s own settings name. It is noted in the database when the very first view is stored, and kept from then on, so that a day never has its borders moved after it was counted. Where the clocks change, one day of the year has twenty-three hours and one has twenty-five, and both are one day.
""",
    ),
    Text(
        slug="visitors-do-not-add-up",
        title="Visitors do not add up",
        days_old=36,
        body="""\
Page views add up. Ten on Monday and ten on Tuesday are twenty for both days, and no calendar will change that. Visitors do not: seven on Monday and seven on Tuesday may be fourteen people, or seven, or anything between.

There are three usual ways out. Count all the raw rows again, which takes longer each week. Keep a sketch that is nearly right. Or add the days up and hope that nobody checks.

There is a fourth. Beside the visitors of each day, note how many of them were last here on which earlier day. Somebody who came on both days was counted twice, and the second time is in those notes, so it can be taken off:

`visitors(range) = sum of the days − those whose previous day is in the range too`

Each visitor is taken off once for every day but their first in the range. What is left is exact, and what it costs to ask depends on the number of days, not on the number of visits.
""",
    ),
    Text(
        slug="pull-the-plug",
        title="Pull the plug",
        days_old=20,
        body="""\
Adding up old rows takes a while, and a while is long enough for something to happen: the machine is restarted, the process is ended, the power goes. Then the question is what the figures say in the morning.

Here the rows are taken in chunks of five hundred, and each chunk is one transaction. Marking its rows as counted and moving the figures happen together, or neither does. Stop it at any instant, and what is left over is simply still pending.

Pending rows are not missing from the figures, either. A count is what has been added up plus what has not been yet, asked for in one statement, so that the total is the same before, during and after.
""",
    ),
    Text(
        slug="a-visitor-without-a-cookie",
        title="A visitor without a cookie",
        days_old=6,
        body="""\
To count visitors you need to tell them apart. The usual way is to hand each of them a number to carry around, which is what the banner at the bottom of other sites is about.

This site makes the number itself, out of the address, the name that the browser gives itself, the name of the site, and a new secret each day. None of the first three is stored. With the day’s secret gone, nobody can go back from the number to what it was made of, and that includes us.

## What it costs

The number is another one tomorrow. Somebody who reads here on two days is two visitors, and there is no telling that they are one person. That is why the stats call the figure daily visitors, and why you will find no returning ones.

Two people behind one address with the same browser are one visitor. There is no way round that without knowing more about them, and we would rather not.
""",
    ),
    Text(
        slug="a-year-in-one-chart",
        title="A year in one chart",
        days_old=1,
        published=False,
        body="""\
A draft: nobody but the administration can see it, and its address answers that there is nothing there.
""",
    ),
)

PAGES = (
    Text(
        slug="about",
        title="About",
        days_old=90,
        body="""\
This is the example site of django-pagestats: two models, five templates, one style sheet, and the few lines of settings that make a Django site count its own page views.

It is a real blog as far as it goes. You can write posts in the administration, rename one and see its title change in the stats at once, or take one back and see it listed by its path.

## About the figures

`make demo` fills the stats with 90 days of visits so that there is something to look at. Those visits never happened: a random generator made them up, always the same way. Whatever you look at yourself is counted on top of them, and that part is true.
""",
    ),
    Text(
        slug="contact",
        title="Contact",
        days_old=90,
        body="""\
There is nobody to write to here: this site runs on your own machine, and you are its editor.

If something in it is wrong, the place to say so is the issue tracker of django-pagestats. If a figure is wrong, please say which one, what you expected, and which database you use.
""",
    ),
    Text(
        slug="colophon",
        title="Colophon",
        days_old=90,
        published=False,
        body="""\
Set in the fonts that your own machine likes best. This page was taken back, so the stats list what it was read before under its path.
""",
    ),
)
