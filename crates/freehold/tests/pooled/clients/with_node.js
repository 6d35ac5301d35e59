// Prepares on two connections that take turns, and prints how many rows came of it.
const { Client } = require("pg");

async function main() {
  const clients = [0, 1].map(() => new Client({ connectionString: process.argv[2] }));
  for (const client of clients) await client.connect();
  await clients[0].query("CREATE TABLE node (n int)");
  for (let n = 0; n < 20; n++) {
    const client = clients[n % 2];
    await client.query("BEGIN");
    await client.query({ name: "add", text: "INSERT INTO node VALUES ($1)", values: [n] });
    await client.query("COMMIT");
  }
  const found = await clients[1].query("SELECT count(*) FROM node");
  console.log(found.rows[0].count);
  for (const client of clients) await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
