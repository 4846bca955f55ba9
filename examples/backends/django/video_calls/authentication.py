"""Authentication: find the user of a JWT."""

import jwt
from django.conf import settings
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from video_calls.models import User


class JwtAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, None] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = jwt.decode(
                token, settings.JWT_SIGNING_KEY, algorithms=["HS256"], options={"require": ["exp"]}
            )
        except jwt.PyJWTError as error:
            raise exceptions.AuthenticationFailed("Given token not valid for any token type") from error
        user = User.objects.filter(pk=claims["user_id"]).first()
        if user is None or not user.is_active:
            raise exceptions.AuthenticationFailed("User is inactive")
        return user, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'
