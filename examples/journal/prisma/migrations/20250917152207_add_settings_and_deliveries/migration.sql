-- CreateEnum
CREATE TYPE "Weekday" AS ENUM ('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN');

-- CreateEnum
CREATE TYPE "DeliveryStatus" AS ENUM ('QUEUED', 'DELIVERED', 'BOUNCED', 'COMPLAINED');

-- CreateTable
CREATE TABLE "EmailBookmarkSettings" (
    "userId" TEXT NOT NULL,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "folders" TEXT[] DEFAULT ARRAY['INBOX']::TEXT[],
    "senders" TEXT[],
    "rules" JSONB NOT NULL DEFAULT '[]',
    "maxSize" BIGINT NOT NULL DEFAULT 26214400,
    "lastSyncAt" TIMESTAMP(3),

    CONSTRAINT "EmailBookmarkSettings_pkey" PRIMARY KEY ("userId")
);

-- CreateTable
CREATE TABLE "GoogleTimelineSettings" (
    "userId" TEXT NOT NULL,
    "enabled" BOOLEAN NOT NULL DEFAULT false,
    "homeLat" DECIMAL(9,6),
    "homeLng" DECIMAL(9,6),
    "radius" DOUBLE PRECISION NOT NULL DEFAULT 150,
    "ignored" JSONB NOT NULL DEFAULT '[]',
    "keepUntil" DATE,

    CONSTRAINT "GoogleTimelineSettings_pkey" PRIMARY KEY ("userId")
);

-- CreateTable
CREATE TABLE "TrelloSettings" (
    "id" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "boardIds" TEXT[],
    "listMap" JSONB NOT NULL DEFAULT '{}',
    "secret" BYTEA,

    CONSTRAINT "TrelloSettings_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "UserEmailDelivery" (
    "id" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "entryId" TEXT,
    "status" "DeliveryStatus" NOT NULL DEFAULT 'QUEUED',
    "address" VARCHAR(320) NOT NULL,
    "subject" TEXT NOT NULL,
    "weekdays" "Weekday"[],
    "sendAfter" TIME(0) NOT NULL,
    "messageId" TEXT,
    "attempts" SMALLINT NOT NULL DEFAULT 0,
    "response" TEXT,
    "queuedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "UserEmailDelivery_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "EmailBookmarkSettings_enabled_lastSyncAt_idx" ON "EmailBookmarkSettings"("enabled", "lastSyncAt");

-- CreateIndex
CREATE INDEX "GoogleTimelineSettings_enabled_idx" ON "GoogleTimelineSettings"("enabled");

-- CreateIndex
CREATE UNIQUE INDEX "TrelloSettings_userId_key" ON "TrelloSettings"("userId");

-- CreateIndex
CREATE INDEX "TrelloSettings_boardIds_idx" ON "TrelloSettings" USING GIN ("boardIds");

-- CreateIndex
CREATE UNIQUE INDEX "UserEmailDelivery_messageId_key" ON "UserEmailDelivery"("messageId");

-- CreateIndex
CREATE INDEX "UserEmailDelivery_userId_queuedAt_idx" ON "UserEmailDelivery"("userId", "queuedAt");

-- CreateIndex
CREATE INDEX "UserEmailDelivery_entryId_idx" ON "UserEmailDelivery"("entryId");

-- CreateIndex
CREATE INDEX "UserEmailDelivery_status_queuedAt_idx" ON "UserEmailDelivery"("status", "queuedAt");

-- AddForeignKey
ALTER TABLE "EmailBookmarkSettings" ADD CONSTRAINT "EmailBookmarkSettings_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "GoogleTimelineSettings" ADD CONSTRAINT "GoogleTimelineSettings_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "TrelloSettings" ADD CONSTRAINT "TrelloSettings_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "UserEmailDelivery" ADD CONSTRAINT "UserEmailDelivery_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "UserEmailDelivery" ADD CONSTRAINT "UserEmailDelivery_entryId_fkey" FOREIGN KEY ("entryId") REFERENCES "JournalEntry"("id") ON DELETE SET NULL ON UPDATE CASCADE;
