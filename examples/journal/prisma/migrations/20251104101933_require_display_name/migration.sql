-- Edited by hand. Prisma proposed to drop "name" and to add a required "displayName",
-- which loses every name and fails on a table that is not empty.

-- AlterTable
ALTER TABLE "User" RENAME COLUMN "name" TO "displayName";

-- Those who never gave a name are called by the front part of their address.
UPDATE "User"
SET "displayName" = split_part("email", '@', 1)
WHERE btrim(coalesce("displayName", '')) = '';

-- AlterTable
ALTER TABLE "User" ALTER COLUMN "displayName" SET NOT NULL,
ADD CONSTRAINT "User_displayName_not_blank" CHECK (btrim("displayName") <> '');

-- AlterTable
ALTER TABLE "Event" ADD CONSTRAINT "Event_ends_after_it_begins" CHECK ("endedAt" IS NULL OR "endedAt" >= "occurredAt");
