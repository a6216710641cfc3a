-- Ids are UUIDv7, keyed hashes 16 bytes, SHA-256 hashes 32 bytes. The twin of this file is
-- migrations/sqlite/0001_initial.sql.
--
-- Rows that change keep room beside them (fillfactor), so that a change stays in its page. Where rows leave a partial
-- index one after the other, what is left of them is passed over by every look at the index until a vacuum takes it
-- away: so these tables are vacuumed often, indexes included.

-- One mailbox over the whole installation. Its row is locked before anything about the mailbox is decided, and its
-- ledger holds what the limits on confirmation mails rest on. No address is readable here.
create table address (
    mailbox    bytea primary key check (length(mailbox) = 16),
    ledger     jsonb,                        -- none while it would hold the first mail alone, confirmed or not
    first_mail uuid,                         -- none once there is a ledger
    check ((ledger is null) = (first_mail is not null))
) with (fillfactor = 80);

-- One address at one sender.
create table subscriber (
    id         uuid primary key,
    sender     text not null,
    identity   bytea not null,               -- keyed hash of sender and canonical address
    mailbox    bytea not null,
    email      text not null,                -- as given at the first signup
    locale     text not null,
    created_at timestamptz not null,
    unique (sender, identity)
);

-- One subscriber on one list. The counter goes up with every unsubscribe and objection; a signup remembers it, and
-- confirms only while it is unchanged.
create table subscription (
    id         uuid primary key,
    subscriber uuid not null references subscriber (id),
    list       text not null,
    state      text not null check (state in
        ('confirmed', 'attested', 'unsubscribed', 'objected', 'undeliverable', 'lapsed', 'unproven')),
    basis      text not null check (basis in ('consent', 'soft_opt_in', 'none')),
    since      timestamptz not null,
    counter    bigint not null,
    signup     uuid,                         -- the signup that confirmed it
    revision   bigint not null,              -- of the list's words that were agreed to
    locale     text not null,
    restricted_at timestamptz,
    unique (subscriber, list)
);

-- A subscription whose subscriber was erased, so that its old links still end a later subscription.
create table tombstone (
    subscription uuid primary key,
    sender     text not null,
    list       text not null,
    identity   bytea not null,
    erased_at  timestamptz not null
);

-- One request by one address for one or more lists.
create table signup (
    id         uuid primary key,
    sender     text not null,
    subscriber uuid not null references subscriber (id),
    mailbox    bytea not null,
    email      text not null,                -- as given: mail goes to this spelling
    locale     text not null,
    state      text not null check (state in ('accepted', 'sent', 'withheld', 'not_needed', 'undeliverable')),
    created_at timestamptz not null,
    expires_at timestamptz,                  -- the end of its link; set with the first claim of its mail
    ended_at   timestamptz,                  -- when the last of its lists ended
    consent    jsonb not null,               -- the facts of the first opt-in
    ref        text,
    attributes jsonb,
    redirect   text,
    again_of   uuid                          -- the expired signup whose page asked for this one
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_limit = 2000, vacuum_index_cleanup = on);
create index signup_subscriber on signup (subscriber);
create index signup_expiring on signup (expires_at) where ended_at is null and expires_at is not null;

create table signup_list (
    signup     uuid not null references signup (id) on delete cascade,
    list       text not null,
    state      text not null check (state in ('open', 'confirmed', 'declined', 'expired', 'withheld',
        'already_confirmed', 'undeliverable', 'erased')),
    reason     text,                         -- how it was declined
    counter    bigint not null,              -- of the subscription, when the signup came
    facts      bytea not null,               -- what the list said then
    decided_at timestamptz,
    primary key (signup, list)
) with (fillfactor = 80);

-- One mail that must be sent. What makes its bytes is pinned when it is first claimed.
create table message (
    id         uuid primary key,
    kind       text not null check (kind in ('confirmation', 'already_subscribed', 'welcome', 'goodbye')),
    state      text not null check (state in ('queued', 'claimed', 'sent', 'withheld', 'cancelled', 'failed', 'unknown',
        'quarantined')),
    sender     text not null,
    subscriber uuid not null,
    mailbox    bytea not null,
    signup     uuid,
    lists      jsonb not null,               -- [{"list", "facts"}]
    created_at timestamptz not null,
    due_at     timestamptz not null,
    attempts   bigint not null default 0,    -- that reached the relay
    ambiguous  bigint not null default 0,    -- of these, without an answer to the dot
    claims     bigint not null default 0,
    lost       bigint not null default 0,    -- of the claims, those in a row that ended without an outcome
    claim      uuid,                         -- token of the claim in force
    lease_until timestamptz,
    pinned     jsonb,                        -- link key, template, Message-ID, Date, boundary
    outcome    jsonb,                        -- of the last attempt: phase, code, enhanced code
    settled_at timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_limit = 2000, vacuum_index_cleanup = on);
create index message_due on message (due_at) where state = 'queued';
create index message_leased on message (lease_until) where state = 'claimed';
create index message_quarantined on message (created_at) where state = 'quarantined';
create index message_subscriber on message (subscriber);

-- What happened, in the order in which it was written (ord) and, once sequenced, in the order of the trail (seq).
create table event (
    ord        bigint generated always as identity primary key,
    id         uuid not null unique,
    type       text not null,
    time       timestamptz not null,
    sender     text,
    list       text,
    subscriber uuid,
    signup     uuid,
    message    uuid,
    leaf       bytea not null,               -- the bytes that the trail hashes; the columns before are copies of what they say
    seq        bigint
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_limit = 2000, vacuum_index_cleanup = on);
-- Those without a number stand in no index of numbers: they would be written there and become waste at once.
create unique index event_seq on event (seq) where seq is not null;
create index event_unsequenced on event (ord) where seq is null;
create index event_subscriber on event (subscriber) where subscriber is not null;

create function event_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'events are append-only';
end $$;
create function event_is_only_numbered() returns trigger language plpgsql as $$
begin
    if old.seq is not null or new.seq is null
       or (new.ord, new.id, new.type, new.time, new.sender, new.list, new.subscriber, new.signup, new.message, new.leaf)
          is distinct from
          (old.ord, old.id, old.type, old.time, old.sender, old.list, old.subscriber, old.signup, old.message, old.leaf)
    then
        raise exception 'events are append-only';
    end if;
    return new;
end $$;
create trigger event_is_never_deleted before delete on event
    for each row execute function event_is_append_only();
create trigger event_is_never_truncated before truncate on event
    for each statement execute function event_is_append_only();
create trigger event_is_only_numbered before update on event
    for each row execute function event_is_only_numbered();
create trigger event_begins_without_number before insert on event
    for each row when (new.seq is not null) execute function event_is_append_only();

create table trail_head (
    one        bigint primary key check (one = 1),
    size       bigint not null,
    epoch      bigint not null               -- goes up when the operator declares that a part of the trail was lost
) with (fillfactor = 10);
insert into trail_head (one, size, epoch) values (1, 0, 1);

create view numbered_event as select * from event where seq is not null;
create view unnumbered_event as select * from event where seq is null;

-- Until when the clock has gone on evenly, as far as the sweep saw: what time ends, ends only while it does.
create table clock (
    one        bigint primary key check (one = 1),
    at         timestamptz not null
);

-- What a restored database has lost: the events of another time after so many. While one is open, nobody is eligible.
create table lost_window (
    epoch      bigint primary key,           -- that began with it
    size       bigint not null,              -- how many events were left
    since      timestamptz not null,         -- when the last of them was, or the last that was replayed
    until      timestamptz not null,         -- when the database was restored
    reached    bigint not null,              -- the last number of the lost trail that was replayed
    ended_at   timestamptz
);

-- The RFC 6962 tree over all leaves, as C2SP tiles of up to 256 hashes: level 0 holds the hashes of leaves, each level
-- above the roots of the full tiles below. Every hash is written once; only the last tile of a level grows.
create table tile (
    level      bigint not null,
    place      bigint not null,
    hashes     bytea not null,
    primary key (level, place)
);

-- What was signed: how long the trail was, and its root. Of those over one size, the newest and the stamped ones are kept.
create table checkpoint (
    epoch      bigint not null,
    size       bigint not null,
    note       text not null,                -- a C2SP signed note
    signed_at  timestamptz not null,
    stamp      bytea,                        -- a time stamp over the note (RFC 3161), where one was asked for
    primary key (epoch, size, signed_at)
);
create index checkpoint_size on checkpoint (size, epoch);
create index checkpoint_stamped on checkpoint (signed_at) where stamp is not null;

-- The personal facts behind events, in parts. The event holds a commitment to each, so that a part can be erased and
-- the rest still verifies. The parts about a subscriber are found by the subscriber's events.
create table evidence (
    event      uuid not null,
    part       text not null check (part in ('address', 'wording', 'form', 'mail', 'request', 'network')),
    subscriber uuid not null,
    key        bytea not null check (length(key) = 32),
    body       text not null,
    kept_at    timestamptz not null,
    primary key (event, part)
);
create index evidence_network on evidence (kept_at) where part = 'network';

-- What lists and senders said, by hash; words that were ever in force; the revision in force.
create table facts (
    hash       bytea primary key,
    body       text not null,
    kept_at    timestamptz not null
);
create table consent_text (
    list       text not null,
    hash       bytea not null,
    locale     text not null,
    body       text not null,
    revision   bigint not null,
    kept_at    timestamptz not null,
    primary key (list, hash, locale)
);
create table list (
    id         text primary key,
    sender     text not null,
    revision   bigint not null,
    words      bytea not null,
    material   bigint not null,              -- the last revision that changed materially
    facts      bytea not null references facts (hash),
    closed_at  timestamptz
);
create table template (
    hash       bytea primary key,
    body       text not null,
    kept_at    timestamptz not null
);

create table api_key (
    id         uuid primary key,
    sender     text not null,
    scopes     jsonb not null,
    hash       bytea not null unique,
    created_at timestamptz not null,
    revoked_at timestamptz
);

create table idempotency (
    request    bytea primary key,            -- keyed hash of API key, route and Idempotency-Key
    fingerprint bytea not null,
    signup     uuid not null,
    created_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_limit = 2000, vacuum_index_cleanup = on);
create index idempotency_old on idempotency (created_at);

create table keyring (
    id         text primary key,
    purpose    text not null check (purpose in ('links', 'pepper', 'trail')),
    state      text not null check (state in ('sign', 'verify', 'unsubscribe-only', 'in use')),
    fingerprint bytea not null,
    created_at timestamptz not null
);
