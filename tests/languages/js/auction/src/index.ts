// An auction: a backend opens items, clients bid, and a timer ends it.

import { callError, config, definePlugin, getUidByClientId, log, parseJson, refuse, reply, sendToGroup, setTimer, unknownMethod } from 'jackfield-sdk';
import { request } from 'jackfield-sdk/http';
import { openBucket, refused } from 'jackfield-sdk/keyvalue';

interface Auction {
  price: number;
  by: string | null;
  open: boolean;
  /** When it ends, in ms since 1970. */
  end: number;
}

const GROUP = 'auction';
const TIMER = 'end:';
const RETRY_MS = 1000;

const auctions = openBucket('auctions');

export default definePlugin({
  onConnect(client, { query }) {
    const name = query.get('name');
    if (!name) return refuse(400, 'say ?name=');
    return { uid: name, groups: [GROUP] };
  },

  onMessage(client, message) {
    const bid = typeof message === 'string' ? readBid(message) : undefined;
    if (!bid) return void reply({ event: 'refused', why: 'send {"bid":{"item":…,"amount":…}}' });
    const { item, amount } = bid;
    const by = getUidByClientId(client);
    if (!by.ok) return log('warn', `a bid of ${client} is lost: ${by.error}`);
    const written = auctions.updateJson<Auction>(item, (auction) => {
      if (!auction?.open || auction.end <= Date.now()) return refused('it is not open');
      if (amount <= auction.price) return refused(`the price is ${auction.price}`);
      const extended = Date.now() + extendMs();
      return { ...auction, price: amount, by: by.value ?? null, end: Math.max(auction.end, extended) };
    });
    if (written.ok) {
      sendToGroup(GROUP, { event: 'bid', item, amount, by: written.value.by });
    } else {
      reply({ event: 'refused', item, why: written.error.message });
    }
  },

  onCall(caller, method, payload) {
    const asked = parseJson<Record<string, unknown> | null>(payload);
    switch (method) {
      case 'open':
        return asked.ok ? open(asked.value) : asked.error;
      case 'state':
        return asked.ok ? state(asked.value) : asked.error;
      default:
        return unknownMethod(method);
    }
  },

  onTimer(name) {
    if (name.startsWith(TIMER)) end(name.slice(TIMER.length));
  },
});

function readBid(text: string): { item: string; amount: number } | undefined {
  const message = parseJson<{ bid?: { item?: unknown; amount?: unknown } } | null>(text);
  const { item, amount } = (message.ok && message.value?.bid) || {};
  return typeof item === 'string' && typeof amount === 'number' ? { item, amount } : undefined;
}

function open(asked: Record<string, unknown> | null) {
  const { item, price, ms } = asked ?? {};
  if (typeof item !== 'string' || typeof price !== 'number' || typeof ms !== 'number') {
    return callError('invalid-argument', '`open` takes {"item":"vase","price":100,"ms":30000}');
  }
  const opened = auctions.updateJson<Auction>(item, (auction) => {
    if (auction?.open) return refused(`${item} is open already`);
    return { price, by: null, open: true, end: Date.now() + ms };
  });
  if (!opened.ok) return callError(opened.error.code === 'refused' ? 'invalid-argument' : 'failed', opened.error.message);
  const timer = setTimer(TIMER + item, ms, { scope: 'cluster' });
  if (timer.ok) return { item, ends_in_ms: ms };
  auctions.delete(item);
  return timer.error;
}

function state(asked: Record<string, unknown> | null) {
  const item = asked?.item;
  if (typeof item !== 'string') return callError('invalid-argument', '`state` takes {"item":"vase"}');
  const auction = auctions.getJson<Auction>(item);
  if (!auction.ok) return auction.error;
  if (!auction.value) return callError('not-found', `there is no ${item}`);
  const { price, by, open } = auction.value;
  return { item, price, by, open };
}

function end(item: string): void {
  let restMs = 0;
  const closed = auctions.updateJson<Auction>(item, (auction) => {
    if (!auction?.open) return refused('it has ended');
    restMs = auction.end - Date.now();
    return restMs > 0 ? refused('it goes on') : { ...auction, open: false };
  });
  if (closed.ok) return sold(item, closed.value);
  if (closed.error.code !== 'refused') {
    log('warn', `${item} does not end yet: ${closed.error}`);
    restMs = RETRY_MS;
  }
  // 10 ms is the least that a timer can have.
  if (restMs > 0) setTimer(TIMER + item, Math.max(restMs, 10), { scope: 'cluster' });
}

function sold(item: string, { price, by }: Auction): void {
  const event = { event: 'sold', item, amount: price, by };
  sendToGroup(GROUP, event);
  const webhook = config.get('webhook');
  if (webhook === undefined) return;
  const told = request(webhook, { body: event, headers: { 'content-type': 'application/json' } });
  if (!told.ok) log('warn', `${webhook} was not told of ${item}: ${told.error}`);
  else if (!told.value.ok) log('warn', `${webhook} was not told of ${item}: it answered ${told.value.status}`);
}

function extendMs(): number {
  return Number(config.get('extend_ms') ?? 5000);
}
