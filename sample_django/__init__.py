"""The directory service of ``sample_flask`` as a Django project, whose API is guarded by tokenguard.

Run it with ``sample_django/manage.py``, or under gunicorn as ``sample_django.wsgi:application``, under uvicorn as
``sample_django.asgi:application``. What a directory is comes from ``sample_flask``, whose modules for that need no
framework. What has to do with tokenguard is in ``settings.py`` and in ``views/``.
"""
