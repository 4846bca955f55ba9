"""Models: doctors, patients and their calls."""

from django.db import models


class User(models.Model):
    email = models.EmailField(unique=True)
    full_name = models.CharField(max_length=200)
    password = models.CharField(max_length=200, default="pbkdf2_sha256$not-to-be-shown")
    is_active = models.BooleanField(default=True)
    is_authenticated = True


class Doctor(models.Model):
    user = models.OneToOneField(User, on_delete=models.CASCADE)
    specialization = models.CharField(max_length=100)
    years_of_experience = models.PositiveIntegerField(default=10)
    consultation_fee = models.DecimalField(max_digits=8, decimal_places=2, default="50.00")


class Patient(models.Model):
    user = models.OneToOneField(User, on_delete=models.CASCADE)
    phone = models.CharField(max_length=30, default="+44 20 7946 0000")


class VideoCall(models.Model):
    channel_name = models.CharField(max_length=64, unique=True)
    doctor = models.ForeignKey(Doctor, on_delete=models.CASCADE)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="scheduled")
    scheduled_time = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-scheduled_time",)
