// A process that configures nothing: what the first use of the package finds there.
import process from "node:process";
import { getLimiter } from "../../mod.ts";

process.stdout.write(JSON.stringify(getLimiter("api").getConfig()));
