"""The pages of the dashboard: each file is a script that `app` runs, one question a page."""
