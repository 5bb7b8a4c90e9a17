-- The tables of the shop. ottla's own are in schema ottla; it makes them itself.

create table if not exists orders (
  order_id text primary key,
  customer text not null,
  sku text not null,
  quantity integer not null check (quantity > 0),
  placed_at timestamptz not null default now()
);

create table if not exists stock (
  sku text primary key,
  free integer not null check (free >= 0)
);

-- What inventory decided, one row per order: that an order moves stock twice would be an error here.
create table if not exists stock_movement (
  order_id text primary key,
  sku text not null,
  quantity integer not null,
  decided_at timestamptz not null default now()
);
create table if not exists stock_rejection (
  order_id text primary key,
  sku text not null,
  reason text not null,
  decided_at timestamptz not null default now()
);

insert into stock (sku, free) values ('pen', 1000000), ('ink', 250), ('quill', 1)
on conflict (sku) do nothing;
