/** What a first subscription asks for, and where positions are kept. */
export interface ReplaySettings {
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
}

/** Settings, or a function that gives them for a channel (without storage). */
export type Replay = ReplaySettings | ((channel: string) => Omit<ReplaySettings, 'storage'> | undefined);

/**
 * Adds replay to pusher-js 7 or 8.
 *
 * target is the options for `new Pusher(key, withReplay(options))`, of which a
 * copy is returned, or a Pusher instance, which is returned itself; wrap it
 * before channels are subscribed. settings are, without the second argument,
 * target.replay.
 */
export function withReplay<T extends object>(target: T, settings?: Replay): T;
