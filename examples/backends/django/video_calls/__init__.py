"""The backend of the document in Django REST framework, without code of this project.

It implements the document in the simplest way and leaves the rest to the framework: 404 for other
users' calls, 10 calls a page, a redirect if the final slash is missing, HTML for unknown paths, exactly
30 minutes as a conflict, naive times as UTC, and tokens of Agora's own package, which last a day although
their privileges expire after an hour.
"""
