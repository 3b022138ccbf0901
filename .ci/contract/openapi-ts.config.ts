import { defineConfig } from "@hey-api/openapi-ts";

export default defineConfig({
  input: "../../api/openapi.yaml",
  output: "../../build/contract/client",
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
});
