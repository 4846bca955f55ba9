"""`python -m clinic DIRECTORY`."""

import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "clinic.settings"
os.environ["CLINIC_DIRECTORY"] = sys.argv[1]
django.setup()

from clinic.serve import main  # noqa: E402 (models can be imported now)

main()
