-- CreateEnum
CREATE TYPE "EntryStatus" AS ENUM ('DRAFT', 'WRITTEN', 'APPROVED', 'SENT');

-- CreateEnum
CREATE TYPE "LogAction" AS ENUM ('CREATED', 'EDITED', 'APPROVED', 'SENT');

-- CreateEnum
CREATE TYPE "GoalState" AS ENUM ('OPEN', 'REACHED', 'DROPPED');

-- CreateTable
CREATE TABLE "Day" (
    "id" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "date" DATE NOT NULL,
    "wokeAt" TIME(0),
    "steps" INTEGER,
    "weather" JSONB,
    "eventCount" INTEGER NOT NULL DEFAULT 0,
    "closedAt" TIMESTAMP(3),

    CONSTRAINT "Day_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "DayEvent" (
    "dayId" TEXT NOT NULL,
    "eventId" BIGINT NOT NULL,
    "position" SMALLINT NOT NULL,
    "pinned" BOOLEAN NOT NULL DEFAULT false,
    "remark" TEXT,

    CONSTRAINT "DayEvent_pkey" PRIMARY KEY ("dayId","eventId")
);

-- CreateTable
CREATE TABLE "JournalEntry" (
    "id" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "dayId" TEXT NOT NULL,
    "goalId" INTEGER,
    "language" VARCHAR(8) NOT NULL DEFAULT 'en',
    "status" "EntryStatus" NOT NULL DEFAULT 'DRAFT',
    "title" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "tags" TEXT[],
    "wordCount" INTEGER NOT NULL DEFAULT 0,
    "cost" DECIMAL(12,8) NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "JournalEntry_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "JournalLog" (
    "id" BIGSERIAL NOT NULL,
    "entryId" TEXT NOT NULL,
    "actorId" TEXT,
    "action" "LogAction" NOT NULL,
    "change" JSONB,
    "at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "JournalLog_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Goal" (
    "id" SERIAL NOT NULL,
    "userId" TEXT NOT NULL,
    "parentId" INTEGER,
    "title" TEXT NOT NULL,
    "state" "GoalState" NOT NULL DEFAULT 'OPEN',
    "target" DECIMAL(30,10) NOT NULL,
    "reached" DECIMAL(30,10) NOT NULL DEFAULT 0,
    "dueOn" DATE,
    "notes" TEXT,

    CONSTRAINT "Goal_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "Day_date_idx" ON "Day"("date");

-- CreateIndex
CREATE UNIQUE INDEX "Day_userId_date_key" ON "Day"("userId", "date");

-- CreateIndex
CREATE INDEX "DayEvent_eventId_idx" ON "DayEvent"("eventId");

-- CreateIndex
CREATE UNIQUE INDEX "DayEvent_dayId_position_key" ON "DayEvent"("dayId", "position");

-- CreateIndex
CREATE INDEX "JournalEntry_userId_status_idx" ON "JournalEntry"("userId", "status");

-- CreateIndex
CREATE INDEX "JournalEntry_goalId_idx" ON "JournalEntry"("goalId");

-- CreateIndex
CREATE INDEX "JournalEntry_tags_idx" ON "JournalEntry" USING GIN ("tags");

-- CreateIndex
CREATE UNIQUE INDEX "JournalEntry_dayId_language_key" ON "JournalEntry"("dayId", "language");

-- CreateIndex
CREATE INDEX "JournalLog_entryId_at_idx" ON "JournalLog"("entryId", "at");

-- CreateIndex
CREATE INDEX "JournalLog_actorId_idx" ON "JournalLog"("actorId");

-- CreateIndex
CREATE INDEX "Goal_userId_state_idx" ON "Goal"("userId", "state");

-- CreateIndex
CREATE INDEX "Goal_parentId_idx" ON "Goal"("parentId");

-- AddForeignKey
ALTER TABLE "Day" ADD CONSTRAINT "Day_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DayEvent" ADD CONSTRAINT "DayEvent_dayId_fkey" FOREIGN KEY ("dayId") REFERENCES "Day"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DayEvent" ADD CONSTRAINT "DayEvent_eventId_fkey" FOREIGN KEY ("eventId") REFERENCES "Event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "JournalEntry" ADD CONSTRAINT "JournalEntry_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "JournalEntry" ADD CONSTRAINT "JournalEntry_dayId_fkey" FOREIGN KEY ("dayId") REFERENCES "Day"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "JournalEntry" ADD CONSTRAINT "JournalEntry_goalId_fkey" FOREIGN KEY ("goalId") REFERENCES "Goal"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "JournalLog" ADD CONSTRAINT "JournalLog_entryId_fkey" FOREIGN KEY ("entryId") REFERENCES "JournalEntry"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "JournalLog" ADD CONSTRAINT "JournalLog_actorId_fkey" FOREIGN KEY ("actorId") REFERENCES "User"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Goal" ADD CONSTRAINT "Goal_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Goal" ADD CONSTRAINT "Goal_parentId_fkey" FOREIGN KEY ("parentId") REFERENCES "Goal"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
