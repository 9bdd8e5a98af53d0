---The official TypeScript client, generated from the description and strict about the types in
---answers: creates, lists, waits and deletes through `kiln sim digitalocean`.
local fs = require "rt.fs"
local npm = require "spec.support.npm"
local proc = require "rt.proc"
local simulator = require "spec.support.simulator"

-- The client's own library of that time; later ones refuse its lists of text.
local kiota = "1.0.0-preview.97"
local overrides = {}
for _, part in ipairs { "abstractions", "authentication-azure", "bundle", "http-fetchlibrary",
  "serialization-form", "serialization-json", "serialization-multipart", "serialization-text" } do
  overrides["@microsoft/kiota-" .. part] = kiota
end

local script = [[
import { createDigitalOceanClient, DigitalOceanApiKeyAuthenticationProvider }
  from "@digitalocean/dots";
import { FetchRequestAdapter } from "@microsoft/kiota-http-fetchlibrary";

const adapter = new FetchRequestAdapter(
  new DigitalOceanApiKeyAuthenticationProvider(process.env.DO_TOKEN));
const v2 = createDigitalOceanClient(adapter).v2;
adapter.baseUrl = process.env.DO_URL;
const say = (...words) => console.log(...words.map((word) => JSON.stringify(word)));

async function until(look, good) {
  for (let count = 0; count < 400; count++) {
    const seen = await look();
    if (good(seen)) return seen;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("not in time");
}

say("account", (await v2.account.get()).account.status);
const made = await v2.droplets.post({ name: "app", region: "nyc3", size: "s-1vcpu-1gb",
  image: "debian-12-x64", tags: ["blue"] });
say("create", made.droplet.status, made.links.actions[0].rel);
const listed = await v2.droplets.get({ queryParameters: { tagName: "blue" } });
say("list", listed.droplets.map((droplet) => droplet.name), listed.meta.total);
const one = v2.droplets.byDroplet_id(made.droplet.id);
const ready = await until(() => one.get(), (seen) => seen.droplet.status === "active");
say("active", ready.droplet.networks.v4.map((network) => network.type));
const address = (await v2.reserved_ips.post({ region: "nyc3" })).reservedIp;
say("address", address.region.slug, address.locked);
const database = (await v2.databases.post({ name: "app-db", engine: "pg", version: "16",
  region: "nyc3", size: "db-s-1vcpu-1gb", numNodes: 1 })).database;
say("database", database.status, database.connection.port, database.users[0].name);
const domain = (await v2.domains.post({ name: "example.com" })).domain;
const records = await v2.domains.byDomain_name(domain.name).records.get();
say("records", records.domainRecords.map((record) => record.type));
say("volumes", (await v2.volumes.get()).volumes, "keys", (await v2.account.keys.get()).sshKeys);
try {
  await v2.droplets.post({ name: "a_b", region: "nyc3", size: "s-1vcpu-1gb",
    image: "debian-12-x64" });
} catch (refused) {
  say("refused", refused.id ?? refused.responseStatusCode);
}
await one.delete();
await until(() => v2.droplets.get(), (seen) => seen.meta.total === 0);
say("deleted");
]]

local wanted = [[
"account" "active"
"create" "new" "create"
"list" ["app"] 1
"active" ["private","public"]
"address" "nyc3" false
"database" "creating" 25060 "doadmin"
"records" ["SOA","NS","NS","NS"]
"volumes" [] "keys" []
"refused" "unprocessable_entity"
"deleted"
]]

describe("@digitalocean/dots", function()
  it("creates, lists, waits and deletes", function()
    local folder, missing = npm.install("@digitalocean/dots", "1.19.0", overrides)
    if not folder then
      pending("not run: " .. missing)
      return
    end
    assert(fs.write(folder .. "/client.js", script))
    local sim <close> = simulator.start { "--speed", "50" }
    local ended = assert(proc.run {
      argv = { "node", "client.js" }, cwd = folder, timeout = 120,
      env = { DO_URL = sim.url, DO_TOKEN = sim.token },
    })
    assert.equal("", ended.err)
    assert.equal(wanted, ended.out)
  end)
end)
