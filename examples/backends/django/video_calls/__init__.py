"""The document built again, with Django REST framework and nothing of this project.

It does what the document says as such a project plainly would, and leaves the rest as the framework has it:
404 for other people's calls, 10 calls a page whatever is asked for, a redirect where the final slash is
missing, HTML for unknown paths, `OPTIONS` that describes, 30 minutes sharp as a conflict, naive times as UTC,
and tokens from Agora's own package, which live a day though their privileges lapse in an hour.

`python -m clinic DIRECTORY` serves on a free port, prints a configuration for the contract suite and then the
line `# ready`.
"""
