"""The six operations."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from agora_token_builder import RtcTokenBuilder
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from rest_framework import exceptions, mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from video_calls.models import VideoCall
from video_calls.serializers import VideoCallSerializer

changing = threading.Lock()
"""One change at a time, so that what a validation has seen still holds when its call is saved."""


class Json(JSONParser):
    """Refuses JSON that is nested too deeply; the framework's parser fails with a server error."""

    def parse(self, *arguments: Any, **options: Any) -> object:
        try:
            return super().parse(*arguments, **options)
        except RecursionError as error:
            raise exceptions.ParseError("JSON parse error - nested too deeply") from error


class VideoCallViewSet(
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[VideoCall],
):
    serializer_class = VideoCallSerializer
    parser_classes = (Json,)

    def get_queryset(self) -> QuerySet[VideoCall]:
        mine = Q(doctor__user=self.request.user) | Q(patient__user=self.request.user)
        return VideoCall.objects.filter(mine).select_related("doctor__user", "patient__user")

    def create(self, request: Request, *arguments: Any, **options: Any) -> Response:
        with changing, transaction.atomic():
            return super().create(request, *arguments, **options)

    def perform_create(self, serializer: serializers.BaseSerializer[VideoCall]) -> None:
        while True:
            channel_name = f"call_{int(time.time())}_{random.SystemRandom().randint(1000, 9999)}"
            if not VideoCall.objects.filter(channel_name=channel_name).exists():
                break
        serializer.save(channel_name=channel_name)

    @action(detail=True, methods=["post"])
    def join(self, request: Request, pk: str) -> Response:
        with changing, transaction.atomic():
            call = self.get_object()
            if call.status == "cancelled":
                raise serializers.ValidationError("This call has been cancelled")
            if call.status == "completed":
                raise serializers.ValidationError("This call has been completed")
            if call.scheduled_time > timezone.now() + timedelta(minutes=15):
                raise serializers.ValidationError("This call is not scheduled to start yet")
            if call.status == "scheduled":
                call.status, call.started_at = "ongoing", timezone.now()
                call.save()
        expires = int(time.time()) + 3600
        token = RtcTokenBuilder.buildTokenWithUid(
            settings.AGORA_APP_ID,
            settings.AGORA_APP_CERTIFICATE,
            call.channel_name,
            request.user.id,
            1,
            expires,
        )
        return Response(
            {
                "channel_name": call.channel_name,
                "token": token,
                "uid": request.user.id,
                "expiration_time": datetime.fromtimestamp(expires, UTC),
            }
        )

    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        return self.close("ongoing", "completed", ended_at=timezone.now())

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self.close("scheduled", "cancelled")

    def close(self, before: str, after: str, **fields: datetime) -> Response:
        with changing, transaction.atomic():
            call = self.get_object()
            if call.status != before:
                raise serializers.ValidationError(f"Only {before} calls can become {after}")
            call.status = after
            for name, value in fields.items():
                setattr(call, name, value)
            call.save()
        return Response(self.get_serializer(call).data)
