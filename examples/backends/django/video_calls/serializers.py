"""The JSON of calls, doctors and patients, and the rules of a new call."""

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from rest_framework import exceptions, serializers

from video_calls.models import Doctor, Patient, User, VideoCall


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "email", "full_name")


class DoctorSerializer(serializers.ModelSerializer[Doctor]):
    user = UserSerializer()

    class Meta:
        model = Doctor
        fields = ("id", "user", "specialization", "years_of_experience", "consultation_fee")


class PatientSerializer(serializers.ModelSerializer[Patient]):
    user = UserSerializer()

    class Meta:
        model = Patient
        fields = ("id", "user", "phone")


class VideoCallSerializer(serializers.ModelSerializer[VideoCall]):
    doctor = serializers.PrimaryKeyRelatedField(
        queryset=Doctor.objects.all(), pk_field=serializers.IntegerField()
    )
    patient = serializers.PrimaryKeyRelatedField(
        queryset=Patient.objects.all(), pk_field=serializers.IntegerField()
    )
    doctor_details = DoctorSerializer(source="doctor", read_only=True)
    patient_details = PatientSerializer(source="patient", read_only=True)

    class Meta:
        model = VideoCall
        fields = (
            "id",
            "channel_name",
            "doctor",
            "patient",
            "doctor_details",
            "patient_details",
            "status",
            "scheduled_time",
            "started_at",
            "ended_at",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("channel_name", "status", "started_at", "ended_at")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        doctor, patient, scheduled_time = attrs["doctor"], attrs["patient"], attrs["scheduled_time"]
        if self.context["request"].user not in (doctor.user, patient.user):
            raise exceptions.PermissionDenied("You can only schedule your own calls")
        if doctor.user == patient.user:
            raise serializers.ValidationError("Doctor and patient cannot be the same user")
        if not doctor.user.is_active or not patient.user.is_active:
            raise serializers.ValidationError("Both doctor and patient must be active users")
        if scheduled_time <= timezone.now():
            raise serializers.ValidationError("Scheduled time must be in the future")
        if scheduled_time.year >= 9999:
            raise serializers.ValidationError("Scheduled time is too far in the future")
        half_an_hour = timedelta(minutes=30)
        near = VideoCall.objects.filter(
            Q(doctor=doctor) | Q(patient=patient),
            status__in=("scheduled", "ongoing"),
            scheduled_time__range=(scheduled_time - half_an_hour, scheduled_time + half_an_hour),
        )
        if near.exists():
            raise serializers.ValidationError(
                "There is already a scheduled call within 30 minutes of this time"
            )
        return attrs
