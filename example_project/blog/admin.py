from django.contrib import admin

from example_project.blog.models import Page, Post


@admin.register(Post, Page)
class EntryAdmin(admin.ModelAdmin):
    list_display = ["title", "slug", "published", "created"]
    list_filter = ["published"]
    prepopulated_fields = {"slug": ["title"]}
    search_fields = ["title", "body"]
