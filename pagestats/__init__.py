"""Page statistics of a Django site, exact, in the site's own database."""
