// Uploads a file with tus-js-client in chunks of so many megabytes; says how often it had to try
// again.
import { createReadStream, statSync } from "node:fs";
import { Upload } from "tus-js-client";

const [, , endpoint, token, file, about, chunk = "20"] = process.argv;
let tries = 0;

const upload = new Upload(createReadStream(file), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  uploadSize: statSync(file).size,
  chunkSize: Number(chunk) * 1024 * 1024,
  retryDelays: [50, 100, 200, 400],
  metadata: JSON.parse(about),
  onShouldRetry: () => ++tries < 10,
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => {
    console.log(JSON.stringify({ tries }));
  },
});
upload.start();
