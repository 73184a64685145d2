// The demo uses a stock pusher-js the way an application would: nothing here
// knows that the server is reecho.
(() => {
  const { key, prefix, scoreChannel, scoreEvent, chatChannel } = document.body.dataset;
  const element = (id) => document.getElementById(id);
  const secure = location.protocol === 'https:';
  const port = Number(location.port) || (secure ? 443 : 80);

  const pusher = new Pusher(key, {
    cluster: '',
    wsHost: location.hostname,
    wsPort: port,
    wssPort: port,
    wsPath: prefix,
    forceTLS: secure,
    enabledTransports: ['ws', 'wss'],
    channelAuthorization: { endpoint: `${prefix}/demo/auth` },
  });

  pusher.connection.bind('state_change', ({ current }) => {
    element('state').textContent = current;
    element('state').dataset.state = current;
  });

  const score = { home: 'Home', away: 'Away', home_score: 0, away_score: 0 };
  const show = () => {
    element('home').textContent = score.home;
    element('away').textContent = score.away;
    element('home-score').textContent = score.home_score;
    element('away-score').textContent = score.away_score;
  };
  pusher.subscribe(scoreChannel).bind(scoreEvent, (data) => {
    Object.assign(score, data);
    show();
  });

  for (const button of document.querySelectorAll('[data-goal]')) {
    button.addEventListener('click', async () => {
      const next = { ...score };
      if (button.dataset.goal === 'reset') {
        next.home_score = next.away_score = 0;
      } else {
        next[`${button.dataset.goal}_score`] += 1;
      }
      // The page changes when the event comes back, like every other page.
      await fetch(`${prefix}/demo/score`, { method: 'POST', body: new URLSearchParams(next) });
    });
  }

  const names = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Donald', 'Radia'];
  const me = names[Math.floor(Math.random() * names.length)];
  const chat = pusher.subscribe(chatChannel);
  chat.bind('pusher:subscription_succeeded', () => { element('message').disabled = false; });

  let lastWhisper = 0;
  element('message').addEventListener('input', () => {
    // Ten client events a second are allowed; one in 300 ms is enough.
    if (Date.now() - lastWhisper > 300) {
      lastWhisper = Date.now();
      chat.trigger('client-typing', { name: me });
    }
  });

  let quiet;
  chat.bind('client-typing', ({ name }) => {
    element('typing').textContent = `${name} is typing…`;
    clearTimeout(quiet);
    quiet = setTimeout(() => { element('typing').textContent = ''; }, 4000);
  });
})();
