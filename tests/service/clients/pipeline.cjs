// The AWS SDK for JavaScript v3 through start, SNS, SQS and paging; prints one line of JSON.
const { createRequire } = require("node:module");
const sdk = createRequire(process.env.CLIENTS + "/");
const rekognition = sdk("@aws-sdk/client-rekognition");
const sqs = sdk("@aws-sdk/client-sqs");

const { bucket, name, topic, role, queue, serviceUrl, cloudUrl } = JSON.parse(process.argv[2]);

async function main() {
  const client = new rekognition.RekognitionClient({ endpoint: serviceUrl, maxAttempts: 1 });
  const messages = new sqs.SQSClient({ endpoint: cloudUrl });
  const started = await client.send(
    new rekognition.StartPersonTrackingCommand({
      Video: { S3Object: { Bucket: bucket, Name: name } },
      NotificationChannel: { SNSTopicArn: topic, RoleArn: role },
      JobTag: "javascript",
    }),
  );
  let completion;
  for (const until = Date.now() + 30000; !completion && Date.now() < until; ) {
    const received = await messages.send(
      new sqs.ReceiveMessageCommand({ QueueUrl: queue, WaitTimeSeconds: 1 }),
    );
    for (const message of received.Messages ?? []) {
      const said = JSON.parse(JSON.parse(message.Body).Message);
      if (said.JobId === started.JobId) completion = said;
    }
  }
  const pages = [];
  let first;
  const input = { JobId: started.JobId, SortBy: "INDEX" };
  for await (const page of rekognition.paginateGetPersonTracking({ client }, input)) {
    first ??= page;
    pages.push(page.Persons.length);
  }
  let refusal;
  try {
    await client.send(new rekognition.GetPersonTrackingCommand({ JobId: "none" }));
  } catch (error) {
    refusal = { name: error.name, status: error.$metadata.httpStatusCode };
  }
  console.log(
    JSON.stringify({
      completion,
      pages,
      refusal,
      typed: refusal && rekognition.ResourceNotFoundException.name === refusal.name,
      width: first.VideoMetadata.FrameWidth,
      face: Object.keys(first.Persons.find((p) => p.Person.Face).Person.Face).sort(),
    }),
  );
}

main();
