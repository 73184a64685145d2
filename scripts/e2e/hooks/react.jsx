import { configureEcho, useConnectionStatus, useEcho, useEchoModel, useEchoNotification, useEchoPresence, useEchoPublic, useSocketId } from '@laravel/echo-react';
import { StrictMode, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { hear, NOTIFICATION, options, reports, user } from './page.mjs';

configureEcho(options);

function Room() {
  useEchoPublic('match.1', 'ScoreChanged', reports('score'));
  const chat = useEcho('chat.1', ['MessageSent', '.said'], reports('message'));
  const lobby = useEchoPresence('lobby', '.waved', reports('waved'));
  useEchoNotification('App.Models.User.7', reports('notification'), NOTIFICATION);
  useEchoModel('App.Models.Order', 7, 'OrderUpdated', reports('order'));
  useEffect(() => hear(chat.channel(), lobby.channel()), [chat, lobby]);
  return <button id="whisper" onClick={() => chat.channel().whisper('typing', { by: user })}>whisper</button>;
}

function App() {
  const [open, setOpen] = useState(true);
  const status = useConnectionStatus();
  const socket = useSocketId();
  useEffect(() => { reports('status')(status); }, [status]);
  return (
    <>
      <p id="socket">{socket}</p>
      <button id="toggle" onClick={() => setOpen(!open)}>{open ? 'leave' : 'enter'}</button>
      {open && <Room />}
    </>
  );
}

createRoot(document.getElementById('app')).render(<StrictMode><App /></StrictMode>);
