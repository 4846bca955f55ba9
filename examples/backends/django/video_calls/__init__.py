"""The document's backend, built with Django REST framework and nothing of this project.

It implements what the document says in the plainest way and leaves the rest to the framework: 404 for other
users' calls, 10 calls a page, a redirect if the final slash is missing, HTML for unknown paths, 30 minutes
sharp as a conflict, naive times as UTC, and tokens of Agora's own package, which live a day though their
privileges lapse in an hour.
"""
