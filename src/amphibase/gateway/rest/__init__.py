"""The Data API: PostgREST's wire protocol (https://docs.postgrest.org, version 14)."""
