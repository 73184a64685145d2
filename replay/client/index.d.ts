/** What load gives the plugin, and the plugin the handlers of reecho:loaded. */
export interface Loaded {
  /**
   * The position that the state is of: read before the state was
   * (GET channels/{channel}?info=position), or kept with it from the answer to a publish.
   * Events up to it are dropped. Without it those that come during the load are
   * delivered, though they may be in the state.
   */
  position?: string | null;
}

/** What a first subscription asks for, and where positions are kept. */
export interface ReplaySettings {
  /**
   * Loads the state of a channel: after the first subscription, and after each
   * reecho:gap. What it returns goes to the handlers of reecho:loaded of the channel;
   * events wait until then. If it fails it is called again after a pause, and
   * reecho:load_failed tells that, with { error, tries, wait }. signal is aborted
   * when the load is of no use any more. after, last, since, and the places of storage
   * have no meaning beside it.
   */
  load?(channel: string, options: { signal: AbortSignal }): Promise<Loaded | null | undefined | void> | Loaded | null | undefined | void;
  /** A position kept by the application: what came after it. */
  after?: string;
  /** The newest events, so many. */
  last?: number;
  /** Events since a time, RFC 3339. */
  since?: string;
  /**
   * Where what the page keeps outlives a reload: sessionStorage or localStorage,
   * in which pages do not disturb each other, or anything like them that belongs
   * to one page. Without it positions live as long as the page.
   */
  storage?: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
  /**
   * Where the application is asked for many channels at once, with POST (see
   * replay/README.md); false: nowhere. Without it that is the endpoint for one channel
   * with /batch behind it, unless that is a handler of the application's own.
   */
  authBatch?: string | false;
}

/** Settings, or a function that gives them for a channel (without storage and authBatch). */
export type Replay = ReplaySettings | ((channel: string) => Omit<ReplaySettings, 'storage' | 'authBatch'> | undefined);

/** A channel in what authBatch answers: status is that of an answer for it alone. */
export interface ChannelAnswer {
  status: number;
  auth?: string;
  channel_data?: string;
  shared_secret?: string;
}

/**
 * What authBatch answers, with status 200, to socket_id=…&channel_names[]=…: by channel.
 * What it leaves out is asked for alone.
 */
export interface BatchAnswer {
  channels: Record<string, ChannelAnswer>;
}

/**
 * Adds replay to pusher-js 7 or 8. The application is not asked again for the channels
 * and the user of a client that comes back.
 *
 * target is the options for `new Pusher(key, withReplay(options))`, of which a
 * copy is returned, or a Pusher instance, which is returned itself; wrap it
 * before channels are subscribed. settings are, without the second argument,
 * target.replay.
 */
export function withReplay<T extends object>(target: T, settings?: Replay): T;
