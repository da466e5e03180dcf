-- Fills an empty journal database with plausible rows, from hundreds to tens of millions.
--
-- Run it after `prisma migrate deploy`, as one text, by any client; the encoding of the
-- database has to be UTF8. The number of events is set beforehand in the same session:
--
--     SET journal.events = '200000';
--
-- About 1.48 rows come of each event. The same number gives the same rows, in the same
-- order, on every server from PostgreSQL 14 on: nothing is drawn by lot, no clock is read,
-- no table is joined, and what depends on a session's settings (time zone, DateStyle,
-- collation) is avoided. hashint8extended() may be built upon: hash-partitioned tables
-- rest on its values staying as they are.
--
-- No transaction is begun or ended here. Nothing but rows is left behind. Run by psql, it
-- is one statement after the other: add --single-transaction and ON_ERROR_STOP.

CREATE TEMPORARY TABLE journal_size AS
SELECT
    events,
    users,
    3 * users AS accounts,
    -- Every account is collected from this many times.
    greatest(1, events / (50 * 3 * users)) AS runs_each,
    days
FROM (SELECT coalesce(nullif(current_setting('journal.events', true), ''), '1000')::bigint AS events) AS asked
CROSS JOIN LATERAL (SELECT greatest(5, events / 5000) AS users, greatest(12, events / 25) AS days) AS derived;

-- Taken for the thousands of rows that an unknown table is thought to have, every statement
-- below would be compiled by JIT, which takes longer than a small load itself.
ANALYZE journal_size;

-- An id that looks like Prisma's cuid().
CREATE FUNCTION pg_temp.cuid(kind text, n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT 'c' || left(md5(kind || n::text), 24) $$;

-- A number from 0 to k - 1 that looks drawn by lot. Each use has a seed of its own.
CREATE FUNCTION pg_temp.pick(n bigint, seed bigint, k bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT (hashint8extended(n, seed) & 9223372036854775807) % k $$;

CREATE FUNCTION pg_temp.one_of(choices text[], n bigint, seed bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT choices[1 + pg_temp.pick(n, seed, array_length(choices, 1))] $$;

-- Text that has come back changed, or has been taken for something else, from one tool or another.
CREATE FUNCTION pg_temp.odd_text(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $odd$ SELECT (ARRAY[
        '',
        ' ',
        'NULL',
        E'\\N',
        E'\\.',
        E'first line\nsecond line\r\n\tindented third\n',
        E'C:\\Users\\ann\\journal\\new',
        E'back\\\\slashes\\',
        'O''Brien''s "quoted" stand-up; moved',
        '-- PostgreSQL database dump complete',
        'COPY public."Event" (id) FROM stdin;',
        'SELECT 1; DROP TABLE "User"; --',
        '/* neither */ $$ nor $tag$ nor $1 :name %s {0}',
        'Größe: 50 % „Rabatt“ – schön & gut…',
        '朝のランニング 🏃‍♀️ 5 km',
        'مرحبا بالعالم',
        'Zażółć gęślą jaźń',
        E'e\u0301 is not \u00e9',
        E'zero\u200bwidth and \ufeffmark',
        E'bell \x07, escape \x1b[31mred\x1b[0m, delete \x7f'
    ])[1 + n % 20] $odd$;

CREATE FUNCTION pg_temp.sentence(n bigint, seed bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT pg_temp.one_of(ARRAY[
        'The invoice for the spring quarter is attached; please pay by Friday.',
        'Walked along the river until the rain set in, then took the tram.',
        'Moved the card "Import bookmarks" from Doing to Done.',
        'Could you send me the numbers again? The last sheet was cut off.',
        'Lunch with Žofie at the Café Größenwahn, 12:30.',
        'The build is green again after the clock was mocked.',
        'Ihr Paket liegt zur Abholung bereit: Schalter 4, bis 18 Uhr.',
        'It''s quieter here in the mornings, and the light is better.',
        'Arrived at the office, left at a quarter past five.',
        'Reminder: the dentist, and the library''s books are due.',
        'Two reviewers asked for smaller steps; split the change in three.',
        'Slept badly. Coffee helped, the second one did not.',
        'The train was 40 minutes late, so read half of the novel.',
        'Quarterly goals: 3 of 5 reached, one dropped, one to go.',
        'Rehearsal moved to Thursday; bring the score & a pencil.',
        'Called home. Everyone is well; the cat less so.'
    ], n, seed) $$;

INSERT INTO "User" ("id", "email", "displayName", "role", "locale", "timeZone", "country", "avatar", "preferences", "nicknames", "createdAt", "updatedAt")
SELECT
    pg_temp.cuid('user', u),
    'person.' || u || '@example.org',
    pg_temp.one_of(ARRAY['Ann', 'Björn', 'Chloé', 'Đorđe', 'Eoin O''Neill', 'Fatıma', '花子', 'Иван'], u, 1) || ' ' || u,
    (CASE WHEN u = 1 THEN 'ADMIN' WHEN u % 20 = 0 THEN 'EDITOR' ELSE 'MEMBER' END)::"Role",
    pg_temp.one_of(ARRAY['en-GB', 'de-AT', 'ja-JP', 'ar-EG'], u, 2),
    pg_temp.one_of(ARRAY['Europe/London', 'Europe/Vienna', 'Asia/Tokyo', 'Africa/Cairo'], u, 2),
    nullif(pg_temp.one_of(ARRAY['GB', 'AT', 'JP', 'EG', ''], u, 3), ''),
    CASE u % 4 WHEN 0 THEN NULL WHEN 1 THEN ''::bytea ELSE decode('89504e470d0a1a0a00ff' || repeat(md5('avatar' || u), 8), 'hex') END,
    jsonb_build_object('theme', pg_temp.one_of(ARRAY['light', 'dark'], u, 4), 'mail', jsonb_build_object('hour', u % 24, 'signature', pg_temp.odd_text(u))),
    CASE u % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['the "boss"', E'back\\slash', 'a,b', '{c}', 'NULL', ''] ELSE ARRAY[NULL, 'nick ' || u] END,
    timestamp '2021-11-01' + u * interval '1 minute',
    timestamp '2022-06-01' + u * interval '61 seconds'
FROM journal_size, generate_series(1, users) AS u;

INSERT INTO "AuthIdentity" ("id", "userId", "provider", "subject", "passwordHash", "lastAddress", "lastUsedAt", "createdAt")
SELECT
    pg_temp.cuid('identity', 2 * u + k),
    pg_temp.cuid('user', u),
    (CASE WHEN k = 0 THEN 'PASSWORD' ELSE pg_temp.one_of(ARRAY['GOOGLE', 'APPLE', 'SAML'], u, 5) END)::"AuthProvider",
    CASE WHEN k = 0 THEN 'person.' || u || '@example.org' ELSE md5('subject' || u) END,
    CASE WHEN k = 0 THEN decode(md5('password' || u) || md5('salt' || u), 'hex') END,
    CASE u % 3 WHEN 0 THEN inet '2001:db8::' + u WHEN 1 THEN inet '192.0.2.0' + u % 256 END,
    CASE WHEN u % 5 <> 0 THEN timestamptz '2026-01-01 00:00:00+00' - u * interval '1.000001 seconds' END,
    timestamp '2021-11-01' + u * interval '1 minute'
FROM journal_size, generate_series(1, users) AS u, generate_series(0, 1) AS k
WHERE k = 0 OR u % 2 = 0;

INSERT INTO "ConnectedAccount" ("id", "userId", "source", "externalId", "label", "status", "createdAt", "revokedAt")
SELECT
    pg_temp.cuid('account', a),
    pg_temp.cuid('user', 1 + (a - 1) / 3),
    (ARRAY['EMAIL', 'GOOGLE_TIMELINE', 'TRELLO'])[1 + (a - 1) % 3]::"Source",
    'ext-' || a,
    CASE a % 7 WHEN 0 THEN pg_temp.odd_text(a) ELSE 'Account ' || a END,
    (CASE WHEN a % 11 = 0 THEN 'REVOKED' WHEN a % 13 = 0 THEN 'PAUSED' ELSE 'ACTIVE' END)::"AccountStatus",
    timestamp '2021-12-01' + a * interval '1 minute',
    CASE WHEN a % 11 = 0 THEN timestamp '2025-12-01' + a * interval '1 minute' END
FROM journal_size, generate_series(1, accounts) AS a;

INSERT INTO "OAuthToken" ("id", "accountId", "accessCipher", "refreshCipher", "scopes", "expiresAt", "updatedAt")
SELECT
    md5('token' || a)::uuid,
    pg_temp.cuid('account', a),
    decode(repeat(md5('access' || a), 4), 'hex'),
    CASE WHEN a % 4 <> 0 THEN decode(repeat(md5('refresh' || a), 2), 'hex') END,
    ARRAY['openid', 'https://example.org/auth/' || a % 5, 'read:"all"'],
    timestamptz '2026-03-01 00:00:00+00' + a * interval '1.001 seconds',
    timestamp '2026-01-01' + a * interval '1 second'
FROM journal_size, generate_series(1, accounts) AS a
WHERE a % 11 <> 0;

INSERT INTO "Cursor" ("accountId", "stream", "position", "lag", "updatedAt")
SELECT
    pg_temp.cuid('account', a),
    stream,
    CASE WHEN a % 9 = 0 THEN '' ELSE 'history:' || a * 7919 END,
    (ARRAY[0, 0.1::float8 + 0.2::float8, 1e-300, 12345.678, -0.5])[1 + a % 5],
    timestamp '2026-01-01' + a * interval '1 second'
FROM journal_size, generate_series(1, accounts) AS a, unnest(ARRAY['items', 'deleted items']) AS stream;

-- Run number r is of account 1 + (r - 1) % accounts.
INSERT INTO "CollectorRun" ("id", "accountId", "status", "startedAt", "finishedAt", "fetched", "bytesRead", "error", "stats")
SELECT
    r,
    pg_temp.cuid('account', 1 + (r - 1) % accounts),
    (CASE WHEN r % 50 = 0 THEN 'FAILED' WHEN r % 31 = 0 THEN 'PARTIAL' ELSE 'SUCCEEDED' END)::"RunStatus",
    at,
    CASE WHEN r % 50 <> 0 THEN at + pg_temp.pick(r, 47, 90000) * interval '1 millisecond' END,
    pg_temp.pick(r, 6, 500),
    CASE WHEN r % 1000 = 0 THEN 9223372036854775807 ELSE pg_temp.pick(r, 7, 5000000000) END,
    CASE WHEN r % 50 = 0 THEN E'HTTP 503\n\tat fetch (\\\\server\\share)\n' || pg_temp.odd_text(r / 50) END,
    jsonb_build_object('pages', r % 12, 'retries', ARRAY[r % 2, r % 3], 'ms', pg_temp.pick(r, 8, 100000) / 1000.0)
FROM journal_size
CROSS JOIN generate_series(1, accounts * runs_each) AS r
CROSS JOIN LATERAL (SELECT timestamp '2022-01-01' + ((r - 1) / accounts * (days / users) * 86400 / runs_each + r % 3600) * interval '1 second' AS at) AS started;

-- Day number d is of person 1 + d % users; events come in the order of days.
INSERT INTO "Day" ("id", "userId", "date", "wokeAt", "steps", "weather", "eventCount", "closedAt")
SELECT
    pg_temp.cuid('day', d),
    pg_temp.cuid('user', 1 + d % users),
    date '2022-01-01' + (d / users)::int,
    CASE WHEN d % 6 <> 0 THEN time '05:30:00' + pg_temp.pick(d, 9, 14400) * interval '1 second' END,
    CASE WHEN d % 4 <> 0 THEN pg_temp.pick(d, 10, 30000) END,
    CASE WHEN d % 3 <> 0 THEN jsonb_build_object('sky', pg_temp.one_of(ARRAY['clear', 'rain', 'snow', 'föhn'], d, 11), 'degrees', pg_temp.pick(d, 12, 500) / 10.0 - 15) END,
    pg_temp.pick(d, 13, 40),
    CASE WHEN d % 8 <> 0 THEN timestamp '2022-01-02 03:00:00' + d / users * interval '86400 seconds' END
FROM journal_size, generate_series(1, days) AS d;

INSERT INTO "Event" ("id", "userId", "accountId", "runId", "source", "externalId", "title", "body", "occurredAt", "endedAt", "amount", "bytesSize", "contentHash", "payload", "labels", "importance", "collectedAt")
SELECT
    e,
    pg_temp.cuid('user', u),
    -- What a person noted by hand (kind 3) has neither account nor run.
    CASE WHEN kind < 3 THEN pg_temp.cuid('account', 3 * u - 2 + kind) END,
    CASE WHEN kind < 3 THEN 3 * u - 2 + kind + accounts * ((d - 1) * runs_each / days) END,
    (ARRAY['EMAIL', 'GOOGLE_TIMELINE', 'TRELLO', 'MANUAL'])[1 + kind]::"Source",
    'msg-' || e,
    CASE WHEN e % 41 = 0 THEN pg_temp.odd_text(e / 41) ELSE pg_temp.one_of(ARRAY['Re: invoice', 'Fwd: notes', 'Visit', 'Card moved', 'Überweisung', 'Walk'], e, 15) || ' #' || e END,
    CASE
        WHEN e % 5 = 0 THEN NULL
        WHEN e % 59 = 0 THEN pg_temp.odd_text(e / 59)
        WHEN e % 4999 = 0 THEN repeat(pg_temp.sentence(e, 16) || E'\n' || md5('long' || e) || E'\t', 200)
        WHEN e % 2 = 0 THEN pg_temp.sentence(e, 16)
        ELSE pg_temp.sentence(e, 16) || ' ' || pg_temp.sentence(e, 17)
    END,
    at,
    CASE WHEN kind = 1 THEN at + pg_temp.pick(e, 18, 7200) * interval '1 second' END,
    CASE e % 10 WHEN 0 THEN pg_temp.pick(e, 19, 10000000) / 100.0 WHEN 1 THEN (CASE WHEN e % 10000 = 1 THEN -99999999999999.999999 ELSE 0.000001 * pg_temp.pick(e, 19, 1000000000) END) END,
    CASE WHEN kind = 0 THEN pg_temp.pick(e, 20, 3000000000) END,
    CASE WHEN e % 10007 = 0 THEN ''::bytea ELSE int8send(hashint8extended(e, 48)) || int8send(hashint8extended(e, 49)) END,
    CASE WHEN e % 500 = 0
        THEN jsonb_build_object('text', pg_temp.odd_text(e / 500), 'deep', jsonb_build_array(1, NULL, true, jsonb_build_object('', jsonb_build_array(), 'n', 123456789012345678901234567890.5)))
        ELSE ('{"thread": "' || to_hex(hashint8extended(e, 50)) || '", "flags": [' || e % 3 || ', null], "from": "Ä. \"' || u || '\""}')::jsonb
    END,
    CASE e % 4 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['inbox', 'to "read"'] WHEN 2 THEN ARRAY['label ' || e % 100] END,
    pg_temp.pick(e, 21, 10) - 3,
    timestamp '2022-01-02 04:00:00' + (d / users * 86400000 + e % 86400000) * interval '1 millisecond'
FROM journal_size
CROSS JOIN generate_series(1, events) AS e
CROSS JOIN LATERAL (SELECT 1 + (e - 1) * days / events AS d, (ARRAY[0, 0, 0, 0, 0, 1, 1, 1, 2, 3])[1 + pg_temp.pick(e, 14, 10)] AS kind) AS drawn
CROSS JOIN LATERAL (SELECT 1 + d % users AS u, timestamptz '2022-01-01 00:00:00+00' + (d / users * 86400000 + pg_temp.pick(e, 22, 86400000)) * interval '1 millisecond' AS at) AS placed;

INSERT INTO "EventEnrichment" ("eventId", "summary", "sentiment", "latitude", "longitude", "topics", "vector", "raw", "model", "tokensUsed", "createdAt")
SELECT
    e,
    pg_temp.sentence(e, 23),
    CASE WHEN e % 3 <> 0 THEN pg_temp.pick(e, 24, 2000001) / 1000000.0::float8 - 1 END,
    CASE WHEN e % 2 = 0 THEN pg_temp.pick(e, 25, 180000001) / 1000000.0 - 90 END,
    CASE WHEN e % 2 = 0 THEN pg_temp.pick(e, 26, 360000001) / 1000000.0 - 180 END,
    ARRAY[pg_temp.one_of(ARRAY['work', 'family', 'health', 'money', 'Reisen', '趣味'], e, 27), 'topic ' || pg_temp.pick(e, 28, 300)],
    CASE WHEN e % 2 = 0 THEN ARRAY[pg_temp.pick(e, 29, 1000) / 999.0, -0.1, 3.4e38, pg_temp.pick(e, 30, 1000) / 7.0]::real[] ELSE '{}' END,
    -- json, unlike jsonb, keeps its spaces, its order and its doubled keys.
    CASE e % 4 WHEN 0 THEN (E'{ "b":1,\n  "a" : [ ' || e || ' ], "a":"again", "text": ' || to_json(pg_temp.odd_text(e / 4)) || ' }')::json WHEN 1 THEN json 'null' END,
    (ARRAY['rules-1', 'rules-2', 'small-0.3'])[1 + e % 3],
    pg_temp.pick(e, 31, 4000),
    timestamp '2022-01-02 05:00:00' + e * interval '1 second'
FROM journal_size, generate_series(5, events, 5) AS e;

INSERT INTO "DayEvent" ("dayId", "eventId", "position", "pinned", "remark")
SELECT
    pg_temp.cuid('day', 1 + (e - 1) * days / events),
    e,
    e / 10 % 1000,
    e % 70 = 0,
    CASE WHEN e % 90 = 0 THEN pg_temp.odd_text(e / 90) END
FROM journal_size, generate_series(10, events, 10) AS e;

-- Five goals a person: the first is the parent of two others.
INSERT INTO "Goal" ("id", "userId", "parentId", "title", "state", "target", "reached", "dueOn", "notes")
SELECT
    g,
    pg_temp.cuid('user', 1 + (g - 1) / 5),
    CASE WHEN (g - 1) % 5 IN (1, 3) THEN g - (g - 1) % 5 END,
    pg_temp.one_of(ARRAY['Run', 'Read', 'Save', 'Write', 'Sleep'], g, 32) || ' more, by ' || g % 90 || ' %',
    (ARRAY['OPEN', 'REACHED', 'DROPPED'])[1 + g % 3]::"GoalState",
    CASE WHEN g % 40 = 0 THEN 99999999999999999999.9999999999 ELSE pg_temp.pick(g, 33, 100000) / 8.0 END,
    CASE WHEN g % 3 = 1 THEN pg_temp.pick(g, 34, 1000) * 0.0000000001 ELSE 0 END,
    CASE WHEN g % 2 = 0 THEN date '2024-02-29' + (g % 2000)::int END,
    CASE WHEN g % 3 = 0 THEN pg_temp.odd_text(g / 3) END
FROM journal_size, generate_series(1, 5 * users) AS g;

-- Nine days in ten have an entry in English, one in fifty a German one beside it.
INSERT INTO "JournalEntry" ("id", "userId", "dayId", "goalId", "language", "status", "title", "body", "tags", "wordCount", "cost", "createdAt", "updatedAt")
SELECT
    pg_temp.cuid('entry-' || language, d),
    pg_temp.cuid('user', 1 + d % users),
    pg_temp.cuid('day', d),
    CASE WHEN d % 7 = 0 THEN 1 + 5 * (d % users) + d % 5 END,
    language,
    (ARRAY['DRAFT', 'WRITTEN', 'APPROVED', 'SENT'])[1 + pg_temp.pick(d, 35, 4)]::"EntryStatus",
    CASE WHEN d % 37 = 0 THEN pg_temp.odd_text(d / 37) ELSE 'Day ' || d || ': ' || pg_temp.one_of(ARRAY['quiet', 'long', 'schön', 'in-between'], d, 36) END,
    concat_ws(E'\n\n', '# ' || language, pg_temp.sentence(d, 37), '> ' || pg_temp.sentence(d, 38), E'* \t' || pg_temp.sentence(d, 39), pg_temp.odd_text(d)),
    CASE d % 3 WHEN 0 THEN '{}' ELSE ARRAY['tag ' || pg_temp.pick(d, 40, 200), 'it''s "so"', E'c:\\d'] END,
    pg_temp.pick(d, 41, 900),
    pg_temp.pick(d, 42, 10000000) * 0.00000001,
    timestamp '2022-01-02 06:00:00' + d / users * interval '86400 seconds',
    timestamp '2022-01-02 07:00:00' + d / users * interval '86400 seconds' + d % 3600 * interval '1 second'
FROM journal_size, generate_series(1, days) AS d, unnest(ARRAY['en', 'de']) AS language
WHERE (language = 'en' AND d % 10 <> 0) OR (language = 'de' AND d % 50 = 1);

INSERT INTO "JournalLog" ("id", "entryId", "actorId", "action", "change", "at")
SELECT
    2 * d + k - 1,
    pg_temp.cuid('entry-en', d),
    CASE WHEN d % 4 <> 0 THEN pg_temp.cuid('user', 1 + d % users) END,
    (CASE WHEN k = 0 THEN 'CREATED' ELSE pg_temp.one_of(ARRAY['EDITED', 'APPROVED', 'SENT', 'REGENERATED'], d, 43) END)::"LogAction",
    CASE WHEN k = 1 THEN jsonb_build_object('before', pg_temp.odd_text(d), 'after', pg_temp.sentence(d, 44), 'words', -(d % 50)) END,
    timestamptz '2022-01-02 06:00:00+00' + d / users * interval '86400 seconds' + (k * 60000000 + d % 1000000) * interval '1 microsecond'
FROM journal_size, generate_series(1, days) AS d, generate_series(0, 1) AS k
WHERE d % 10 <> 0 AND (k = 0 OR d % 3 <> 0);

INSERT INTO "EmailBookmarkSettings" ("userId", "enabled", "folders", "senders", "rules", "maxSize", "lastSyncAt")
SELECT
    pg_temp.cuid('user', u),
    u % 5 <> 0,
    CASE WHEN u % 2 = 0 THEN ARRAY['INBOX', 'Entwürfe', 'a/"b"/c'] ELSE ARRAY['INBOX'] END,
    CASE WHEN u % 3 = 0 THEN ARRAY['*@example.com', 'o''neill@example.org'] END,
    jsonb_build_array(jsonb_build_object('match', E'^\\[journal\\]\\s+(.*)$', 'then', ARRAY['keep', 'label:' || u])),
    CASE WHEN u % 50 = 0 THEN 9223372036854775807 ELSE 26214400 END,
    CASE WHEN u % 5 <> 0 THEN timestamp '2026-01-20' + u * interval '1 second' END
FROM journal_size, generate_series(1, users) AS u;

INSERT INTO "GoogleTimelineSettings" ("userId", "enabled", "homeLat", "homeLng", "radius", "ignored", "keepUntil")
SELECT
    pg_temp.cuid('user', u),
    u % 3 <> 0,
    CASE WHEN u % 3 <> 0 THEN pg_temp.pick(u, 45, 180000001) / 1000000.0 - 90 END,
    CASE WHEN u % 3 <> 0 THEN pg_temp.pick(u, 46, 360000001) / 1000000.0 - 180 END,
    150 + u / 3.0::float8,
    CASE WHEN u % 4 = 0 THEN '[{"name": "Arzt", "box": [[48.2, 16.37], [48.21, 16.38]]}]' ELSE '[]' END::jsonb,
    CASE WHEN u % 2 = 0 THEN date '2030-12-31' END
FROM journal_size, generate_series(1, users) AS u
WHERE u % 4 <> 3;

INSERT INTO "TrelloSettings" ("id", "userId", "enabled", "boardIds", "listMap", "secret")
SELECT
    pg_temp.cuid('trello', u),
    pg_temp.cuid('user', u),
    u % 6 <> 0,
    ARRAY[left(md5('board' || u), 24), left(md5('board' || u % 10), 24)],
    jsonb_build_object('To do', NULL, 'Doing ⏳', 'open', E'Done\\Archived', jsonb_build_object('as', 'reached')),
    CASE WHEN u % 2 = 0 THEN decode('00' || md5('secret' || u) || 'ff5c27220a', 'hex') END
FROM journal_size, generate_series(1, users) AS u
WHERE u % 3 <> 2;

-- A delivery for every second day; where that day has no entry, it was a reminder.
INSERT INTO "UserEmailDelivery" ("id", "userId", "entryId", "status", "address", "subject", "weekdays", "sendAfter", "messageId", "attempts", "response", "queuedAt")
SELECT
    pg_temp.cuid('delivery', d),
    pg_temp.cuid('user', 1 + d % users),
    CASE WHEN d % 10 <> 0 THEN pg_temp.cuid('entry-en', d) END,
    (CASE WHEN d % 100 = 0 THEN 'BOUNCED' WHEN d % 770 = 0 THEN 'COMPLAINED' WHEN d > days - 20 THEN 'QUEUED' ELSE 'DELIVERED' END)::"DeliveryStatus",
    'person.' || 1 + d % users || '@example.org',
    CASE WHEN d % 10 <> 0 THEN 'Your day, ' || to_char(date '2022-01-01' + (d / users)::int, 'DD.MM.YYYY') ELSE 'Nothing written yet …' END,
    CASE d % 3 WHEN 0 THEN ARRAY['MON', 'TUE', 'WED', 'THU', 'FRI'] WHEN 1 THEN ARRAY['SAT', 'SUN'] ELSE '{}' END::"Weekday"[],
    time '06:00:00' + d % 24 * interval '15 minutes',
    CASE WHEN d <= days - 20 THEN '<' || md5('message' || d) || '@mail.example.org>' END,
    CASE WHEN d % 100 = 0 THEN 5 ELSE 1 END,
    CASE WHEN d % 100 = 0 THEN E'550 5.1.1 <person>: no such user\r\n' WHEN d <= days - 20 THEN '250 2.0.0 OK' END,
    timestamp '2022-01-02 06:00:00' + d / users * interval '86400 seconds' + d % 900 * interval '1 second'
FROM journal_size, generate_series(2, days, 2) AS d;

-- The ids above were given, so the sequences have to be told.
SELECT setval(pg_get_serial_sequence('"CollectorRun"', 'id'), (SELECT max("id") FROM "CollectorRun"));
SELECT setval(pg_get_serial_sequence('"Event"', 'id'), (SELECT max("id") FROM "Event"));
SELECT setval(pg_get_serial_sequence('"Goal"', 'id'), (SELECT max("id") FROM "Goal"));
SELECT setval(pg_get_serial_sequence('"JournalLog"', 'id'), (SELECT max("id") FROM "JournalLog"));

DROP FUNCTION pg_temp.sentence(bigint, bigint);
DROP FUNCTION pg_temp.odd_text(bigint);
DROP FUNCTION pg_temp.one_of(text[], bigint, bigint);
DROP FUNCTION pg_temp.pick(bigint, bigint, bigint);
DROP FUNCTION pg_temp.cuid(text, bigint);
DROP TABLE pg_temp.journal_size;
