from django.contrib import admin

from example_project.blog.models import Page, Post
from pagestats.model_admin import ViewsAdminMixin


@admin.register(Post, Page)
class EntryAdmin(ViewsAdminMixin, admin.ModelAdmin):
    list_display = ["title", "slug", "published", "created", "page_views"]
    list_filter = ["published"]
    prepopulated_fields = {"slug": ["title"]}
    search_fields = ["title", "body"]
