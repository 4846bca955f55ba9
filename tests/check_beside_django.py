"""Test the installed wheel with a Django project whose app is called `video_calls`, as in the document.

The environment needs the wheel with the extras `testing` and `contract`, and Django.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

TEST = """\
from django.test import SimpleTestCase

import video_calls_sdk
from video_calls.apps import VideoCallsConfig


class NamesTest(SimpleTestCase):
    def test_app_and_sdk_are_both_imported(self):
        self.assertEqual(VideoCallsConfig.name, "video_calls")
        self.assertTrue(video_calls_sdk.VideoCallsClient)
"""
FIXTURE = """
def test_server_is_started(video_calls_server):
    assert video_calls_server.doctor.calls.list().count == 0
"""


def run(directory: str, *command: str) -> None:
    """Run a Python command in the project; it has to succeed."""
    settings = os.environ | {"DJANGO_SETTINGS_MODULE": "clinic.settings"}
    subprocess.run([sys.executable, *command], cwd=directory, env=settings, check=True)


def main(directory: str) -> None:
    """Create the project, and run its tests with Django and with pytest."""
    subprocess.run([sys.executable, "-m", "django", "startproject", "clinic", directory], check=True)
    run(directory, "manage.py", "startapp", "video_calls")
    Path(directory, "video_calls/tests.py").write_text(TEST, encoding="utf-8")
    Path(directory, "test_server.py").write_text(FIXTURE, encoding="utf-8")
    run(directory, "manage.py", "test", "video_calls")
    run(directory, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_server.py", "video_calls/tests.py")


if __name__ == "__main__":
    with TemporaryDirectory() as project:
        main(project)
    print("with a Django app called video_calls: all checks passed")
