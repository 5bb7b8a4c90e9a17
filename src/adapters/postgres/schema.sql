-- ottla schema 1: outbox, inbox, fence, and who relays which shard
begin;
create schema if not exists ottla;

create table ottla.meta (
  only_row boolean primary key default true check (only_row),
  schema_version integer not null,
  shards smallint not null,
  migrated_at timestamptz not null default now()
);
insert into ottla.meta (schema_version, shards) values (1, 64);

-- A row that exists is unpublished: the relay deletes what the broker has acknowledged.
-- row_id says in which order the events of a key go out; its sequence must never be cached.
create table ottla.outbox (
  row_id bigint generated always as identity (cache 1) primary key,
  shard smallint not null,
  topic text not null,
  partition integer,
  key bytea,
  value bytea,
  headers bytea not null,
  id text not null,
  type text not null,
  source text not null,
  timestamp_ms bigint,
  created_at timestamptz not null default clock_timestamp()
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 50000
);

-- bucket follows from the delivery alone, so that every copy of an event meets the same unique index.
create table ottla.inbox (
  bucket integer not null,
  service text not null,
  source text not null,
  id text not null,
  handled_at timestamptz not null default now(),
  primary key (bucket, service, source, id)
) partition by range (bucket);
create table ottla.inbox_rest partition of ottla.inbox default;
create index inbox_rest_handled_at on ottla.inbox_rest (handled_at);

create table ottla.fence (
  service text not null,
  topic_id text not null,
  partition integer not null,
  epoch bigint not null,
  acquired_at timestamptz not null default now(),
  primary key (service, topic_id, partition)
) with (fillfactor = 50);

-- Advisory locks say who is alive; the lease says until when a relay may still be publishing.
create table ottla.relay (
  owner uuid primary key,
  backend_pid integer not null,
  backend_start timestamptz not null,
  lease_until timestamptz not null
) with (fillfactor = 50);
create table ottla.shard (
  shard smallint primary key,
  owner uuid
) with (fillfactor = 50);
insert into ottla.shard (shard) select generate_series(0, 63);
commit;
