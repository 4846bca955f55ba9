"""Where the operations are."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from clinic.views import VideoCallViewSet

router = SimpleRouter()
router.register("video-calls", VideoCallViewSet, basename="video-call")
urlpatterns = [path("api/v1/video/", include(router.urls))]
