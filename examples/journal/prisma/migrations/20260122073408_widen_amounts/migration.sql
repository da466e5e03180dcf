-- AlterEnum
ALTER TYPE "LogAction" ADD VALUE 'REGENERATED';

-- AlterTable
ALTER TABLE "Event" ALTER COLUMN "amount" SET DATA TYPE DECIMAL(20,6);

-- CreateIndex
CREATE INDEX "Event_source_occurredAt_idx" ON "Event"("source", "occurredAt");

-- CreateIndex
CREATE INDEX "Goal_dueOn_idx" ON "Goal"("dueOn");
