-- CreateTable
CREATE TABLE "EventEnrichment" (
    "eventId" BIGINT NOT NULL,
    "summary" TEXT NOT NULL,
    "sentiment" DOUBLE PRECISION,
    "latitude" DECIMAL(9,6),
    "longitude" DECIMAL(9,6),
    "topics" TEXT[],
    "vector" REAL[],
    "raw" JSON,
    "model" VARCHAR(40) NOT NULL DEFAULT 'rules-1',
    "tokensUsed" BIGINT NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "EventEnrichment_pkey" PRIMARY KEY ("eventId")
);

-- CreateIndex
CREATE INDEX "EventEnrichment_topics_idx" ON "EventEnrichment" USING GIN ("topics");

-- CreateIndex
CREATE INDEX "EventEnrichment_model_idx" ON "EventEnrichment"("model");

-- CreateIndex
CREATE INDEX "EventEnrichment_createdAt_idx" ON "EventEnrichment" USING BRIN ("createdAt");

-- AddForeignKey
ALTER TABLE "EventEnrichment" ADD CONSTRAINT "EventEnrichment_eventId_fkey" FOREIGN KEY ("eventId") REFERENCES "Event"("id") ON DELETE CASCADE ON UPDATE CASCADE;
