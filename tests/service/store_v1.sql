-- A job store as the first version of its schema wrote it: one job in progress, one that ended.
BEGIN TRANSACTION;
CREATE TABLE counters (
	name VARCHAR(64) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "counters" VALUES('frames',0);
CREATE TABLE facts (
	name VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('secret','0101010101010101010101010101010101010101010101010101010101010101');
CREATE TABLE jobs (
	job_id VARCHAR(64) NOT NULL, 
	operation VARCHAR(64) NOT NULL, 
	account VARCHAR(128) NOT NULL, 
	bucket VARCHAR(255) NOT NULL, 
	name TEXT NOT NULL, 
	version TEXT, 
	job_tag TEXT, 
	topic_arn TEXT, 
	request TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	status_message TEXT, 
	created_at DOUBLE NOT NULL, 
	completed_at DOUBLE, 
	expires_at DOUBLE NOT NULL, 
	available_at DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	lease_owner VARCHAR(128), 
	lease_until DOUBLE, 
	metadata TEXT, 
	results TEXT, 
	orders TEXT, 
	PRIMARY KEY (job_id)
);
INSERT INTO "jobs" VALUES('rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','label_detection','a','footage','clip.mp4',NULL,NULL,NULL,'{"Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}}, "MinConfidence": 50}','IN_PROGRESS',NULL,999950.0,NULL,1000050.0,999950.0,2,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','label_detection','a','footage','clip.mp4',NULL,NULL,NULL,'{"Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}}, "MinConfidence": 50}','SUCCEEDED',NULL,999950.0,999990.0,1000050.0,999950.0,2,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE outbox (
	job_id VARCHAR(64) NOT NULL, 
	topic_arn TEXT NOT NULL, 
	message TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_at DOUBLE NOT NULL, 
	PRIMARY KEY (job_id)
);
CREATE TABLE tokens (
	account VARCHAR(128) NOT NULL, 
	operation VARCHAR(64) NOT NULL, 
	token VARCHAR(64) NOT NULL, 
	request_hash VARCHAR(64) NOT NULL, 
	job_id VARCHAR(64) NOT NULL, 
	expires_at DOUBLE NOT NULL, 
	PRIMARY KEY (account, operation, token)
);
INSERT INTO "tokens" VALUES('a','label_detection','t','old-hash','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',1000050.0);
CREATE INDEX jobs_by_expiry ON jobs (expires_at);
CREATE INDEX jobs_by_status ON jobs (status, available_at);
CREATE INDEX outbox_by_time ON outbox (next_at);
COMMIT;
