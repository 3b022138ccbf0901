// A program that orders the first listing it finds. It is compiled and not run: it holds the generated client to being
// usable, with its types, from the search to the order.
import { createClient } from "../../build/contract/client/client/index.js";
import { createQuote, placeOrder, searchListings } from "../../build/contract/client/sdk.gen.js";
import type { Order, Problem } from "../../build/contract/client/types.gen.js";

function reason(problem: Problem): Error {
  return new Error(`${problem.code}: ${problem.detail}`);
}

export async function orderFirst(baseUrl: string, key: string, portId: string): Promise<Order> {
  const client = createClient({ baseUrl, auth: key });
  const listings = await searchListings({ client, query: { q: "transit", limit: 1 } });
  if (listings.error) throw reason(listings.error);
  const listing = listings.data?.items[0];
  const bandwidth = listing?.terms.bandwidths_mbps[0];
  if (!listing || bandwidth === undefined) throw new Error("nothing is on the market");

  const quote = await createQuote({
    client,
    headers: { "Idempotency-Key": "example-quote" },
    body: { listing_id: listing.id, bandwidth_mbps: bandwidth, estimated_gb: "1000" },
  });
  if (!quote.data) throw reason(quote.error);

  const order = await placeOrder({
    client,
    headers: { "Idempotency-Key": "example-order" },
    body: {
      quote_id: quote.data.id,
      quote_hash: quote.data.hash,
      port_id: portId,
      bgp: { asn: 64500, prefixes: ["192.0.2.0/24"] },
      max_total: quote.data.total,
    },
  });
  if (!order.data) throw reason(order.error);
  return order.data;
}
