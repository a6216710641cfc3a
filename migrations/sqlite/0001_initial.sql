-- Times are microseconds since 1970 in UTC, ids UUIDv7 as 16 bytes, keyed hashes 16 bytes, SHA-256 hashes 32 bytes,
-- JSON is TEXT. The twin of this file is migrations/postgres/0001_initial.sql.

-- One mailbox over the whole installation. Its row is locked before anything about the mailbox is decided, and its
-- ledger holds what the limits on confirmation mails rest on. No address is readable here.
create table address (
    mailbox    blob primary key check (length(mailbox) = 16),
    ledger     text,                         -- none while it would hold the first mail alone, confirmed or not
    first_mail blob,                         -- none once there is a ledger
    check ((ledger is null) = (first_mail is not null))
) strict, without rowid;

-- One address at one sender.
create table subscriber (
    id         blob primary key,
    sender     text not null,
    identity   blob not null,                -- keyed hash of sender and canonical address
    mailbox    blob not null,
    email      text not null,                -- as given at the first signup
    locale     text not null,
    created_at integer not null,
    unique (sender, identity)
) strict, without rowid;

-- One subscriber on one list. The counter goes up with every unsubscribe and objection; a signup remembers it, and
-- confirms only while it is unchanged.
create table subscription (
    id         blob primary key,
    subscriber blob not null references subscriber (id),
    list       text not null,
    state      text not null check (state in
        ('confirmed', 'attested', 'unsubscribed', 'objected', 'undeliverable', 'lapsed', 'unproven')),
    basis      text not null check (basis in ('consent', 'soft_opt_in', 'none')),
    since      integer not null,
    counter    integer not null,
    signup     blob,                         -- the signup that confirmed it
    revision   integer not null,             -- of the list's words that were agreed to
    locale     text not null,
    restricted_at integer,
    unique (subscriber, list)
) strict, without rowid;

-- A subscription whose subscriber was erased, so that its old links still end a later subscription.
create table tombstone (
    subscription blob primary key,
    sender     text not null,
    list       text not null,
    identity   blob not null,
    erased_at  integer not null
) strict, without rowid;

-- One request by one address for one or more lists.
create table signup (
    id         blob primary key,
    sender     text not null,
    subscriber blob not null references subscriber (id),
    mailbox    blob not null,
    email      text not null,                -- as given: mail goes to this spelling
    locale     text not null,
    state      text not null check (state in ('accepted', 'sent', 'withheld', 'not_needed', 'undeliverable')),
    created_at integer not null,
    expires_at integer,                      -- the end of its link; set with the first claim of its mail
    ended_at   integer,                      -- when the last of its lists ended
    consent    text not null,                -- the facts of the first opt-in
    ref        text,
    attributes text,
    redirect   text,
    again_of   blob                          -- the expired signup whose page asked for this one
) strict, without rowid;
create index signup_subscriber on signup (subscriber);
create index signup_expiring on signup (expires_at) where ended_at is null and expires_at is not null;

create table signup_list (
    signup     blob not null references signup (id) on delete cascade,
    list       text not null,
    state      text not null check (state in ('open', 'confirmed', 'declined', 'expired', 'withheld',
        'already_confirmed', 'undeliverable', 'erased')),
    reason     text,                         -- how it was declined
    counter    integer not null,             -- of the subscription, when the signup came
    facts      blob not null,                -- what the list said then
    decided_at integer,
    primary key (signup, list)
) strict, without rowid;

-- One mail that must be sent. What makes its bytes is pinned when it is first claimed.
create table message (
    id         blob primary key,
    kind       text not null check (kind in ('confirmation', 'already_subscribed', 'welcome', 'goodbye')),
    state      text not null check (state in ('queued', 'claimed', 'sent', 'withheld', 'cancelled', 'failed', 'unknown',
        'quarantined')),
    sender     text not null,
    subscriber blob not null,
    mailbox    blob not null,
    signup     blob,
    lists      text not null,                -- [{"list", "facts"}]
    created_at integer not null,
    due_at     integer not null,
    attempts   integer not null default 0,   -- that reached the relay
    ambiguous  integer not null default 0,   -- of these, without an answer to the dot
    claims     integer not null default 0,
    lost       integer not null default 0,   -- of the claims, those in a row that ended without an outcome
    claim      blob,                         -- token of the claim in force
    lease_until integer,
    pinned     text,                     -- link key, template, Message-ID, Date, boundary
    outcome    text,                     -- of the last attempt: phase, code, enhanced code
    settled_at integer
) strict, without rowid;
create index message_due on message (due_at) where state = 'queued';
create index message_leased on message (lease_until) where state = 'claimed';
create index message_quarantined on message (created_at) where state = 'quarantined';
create index message_subscriber on message (subscriber);

-- What happened, in the order in which it was written (ord). Here one writes after the other, and nothing is taken out
-- again: so that is the order of the trail too, and an event's place is its number (seq) once the trail reaches it.
create table event (
    ord        integer primary key,
    id         blob not null unique,
    type       text not null,
    time       integer not null,
    sender     text,
    list       text,
    subscriber blob,
    signup     blob,
    message    blob,
    leaf       blob not null                 -- the bytes that the trail hashes; the columns before are copies of what they say
) strict;
create index event_subscriber on event (subscriber) where subscriber is not null;

create trigger event_is_never_deleted before delete on event begin
    select raise(abort, 'events are append-only');
end;
create trigger event_is_never_changed before update on event begin
    select raise(abort, 'events are append-only');
end;
-- INSERT OR REPLACE deletes without firing the triggers above unless recursive_triggers is on.
create trigger event_is_never_replaced before insert on event
    when exists (select 1 from event where id = new.id)
      or exists (select 1 from event where ord = new.ord)
begin
    select raise(abort, 'events are append-only');
end;
create trigger event_leaves_no_gap after insert on event
    when new.ord <> 1 and not exists (select 1 from event where ord = new.ord - 1)
begin
    select raise(abort, 'events are append-only');
end;

create table trail_head (
    one        integer primary key check (one = 1),
    size       integer not null,
    epoch      integer not null              -- goes up when the operator declares that a part of the trail was lost
) strict;
insert into trail_head (one, size, epoch) values (1, 0, 1);

create view numbered_event as
    select ord as seq, * from event where ord <= (select size from trail_head where one = 1);
create view unnumbered_event as
    select null as seq, * from event where ord > (select size from trail_head where one = 1);

-- Until when the clock has gone on evenly, as far as the sweep saw: what time ends, ends only while it does.
create table clock (
    one        integer primary key check (one = 1),
    at         integer not null
) strict;

-- What a restored database has lost: the events of another time after so many. While one is open, nobody is eligible.
create table lost_window (
    epoch      integer primary key,          -- that began with it
    size       integer not null,             -- how many events were left
    since      integer not null,             -- when the last of them was, or the last that was replayed
    until      integer not null,             -- when the database was restored
    reached    integer not null,             -- the last number of the lost trail that was replayed
    ended_at   integer
) strict;

-- The RFC 6962 tree over all leaves, as C2SP tiles of up to 256 hashes: level 0 holds the hashes of leaves, each level
-- above the roots of the full tiles below. Every hash is written once; only the last tile of a level grows.
create table tile (
    level      integer not null,
    place      integer not null,
    hashes     blob not null,
    primary key (level, place)
) strict, without rowid;

-- What was signed: how long the trail was, and its root. Of those over one size, the newest and the stamped ones are kept.
create table checkpoint (
    epoch      integer not null,
    size       integer not null,
    note       text not null,                -- a C2SP signed note
    signed_at  integer not null,
    stamp      blob,                         -- a time stamp over the note (RFC 3161), where one was asked for
    primary key (epoch, size, signed_at)
) strict, without rowid;
create index checkpoint_size on checkpoint (size, epoch);
create index checkpoint_stamped on checkpoint (signed_at) where stamp is not null;

-- The personal facts behind events, in parts. The event holds a commitment to each, so that a part can be erased and
-- the rest still verifies. The parts about a subscriber are found by the subscriber's events. Parts are wide and added at
-- the end, so they stand in rows of their own beside the key: within the key each new page would be made of three old ones.
create table evidence (
    event      blob not null,
    part       text not null check (part in ('address', 'wording', 'form', 'mail', 'request', 'network')),
    subscriber blob not null,
    key        blob not null check (length(key) = 32),
    body       text not null,
    kept_at    integer not null,
    primary key (event, part)
) strict;
create index evidence_network on evidence (kept_at) where part = 'network';

-- What lists and senders said, by hash; words that were ever in force; the revision in force.
create table facts (
    hash       blob primary key,
    body       text not null,
    kept_at    integer not null
) strict, without rowid;
create table consent_text (
    list       text not null,
    hash       blob not null,
    locale     text not null,
    body       text not null,
    revision   integer not null,
    kept_at    integer not null,
    primary key (list, hash, locale)
) strict, without rowid;
create table list (
    id         text primary key,
    sender     text not null,
    revision   integer not null,
    words      blob not null,
    material   integer not null,             -- the last revision that changed materially
    facts      blob not null references facts (hash),
    closed_at  integer
) strict, without rowid;
create table template (
    hash       blob primary key,
    body       text not null,
    kept_at    integer not null
) strict, without rowid;

create table api_key (
    id         blob primary key,
    sender     text not null,
    scopes     text not null,
    hash       blob not null unique,
    created_at integer not null,
    revoked_at integer
) strict, without rowid;

create table idempotency (
    request    blob primary key,             -- keyed hash of API key, route and Idempotency-Key
    fingerprint blob not null,
    signup     blob not null,
    created_at integer not null
) strict, without rowid;
create index idempotency_old on idempotency (created_at);

create table keyring (
    id         text primary key,
    purpose    text not null check (purpose in ('links', 'pepper', 'trail')),
    state      text not null check (state in ('sign', 'verify', 'unsubscribe-only', 'in use')),
    fingerprint blob not null,
    created_at integer not null
) strict, without rowid;
