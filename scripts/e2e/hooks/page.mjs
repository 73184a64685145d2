// What the pages of all frameworks have in common. Key, host and port are those of
// import.meta.env, as in a Laravel application. The page is told in its fragment who is
// logged in; whoever opened it hears what it reports.
export const user = location.hash.slice(1);

// options are those of configureEcho.
export const options = {
  broadcaster: 'reverb',
  wsPath: `/session/${crypto.randomUUID()}`,
  auth: { headers: { 'X-User': user } },
};

// reports returns a callback that reports what it is given.
export const reports = (kind) => (what) => window.report(kind, what);

// hear has the callbacks that no hook takes.
export function hear(chat, lobby) {
  chat.listenForWhisper('typing', reports('typing'));
  lobby.here(reports('here')).joining(reports('joining')).leaving(reports('leaving'));
}

export const NOTIFICATION = 'App.Notifications.InvoicePaid';
