-- AlterTable
ALTER TABLE "JournalEntry" ADD COLUMN     "mood" VARCHAR(16);

-- CreateIndex
CREATE INDEX "JournalEntry_userId_mood_idx" ON "JournalEntry"("userId", "mood");
