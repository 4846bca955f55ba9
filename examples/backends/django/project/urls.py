"""Routes of the six operations."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter
from video_calls.views import VideoCallViewSet

router = SimpleRouter()
router.register("video-calls", VideoCallViewSet, basename="video-call")
urlpatterns = [path("api/v1/video/", include(router.urls))]
