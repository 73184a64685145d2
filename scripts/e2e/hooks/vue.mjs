import { configureEcho, useConnectionStatus, useEcho, useEchoModel, useEchoNotification, useEchoPresence, useEchoPublic, useSocketId } from '@laravel/echo-vue';
import { createApp, h, onMounted, ref, watch } from 'vue';
import { hear, NOTIFICATION, options, reports, user } from './page.mjs';

configureEcho(options);

const Room = {
  setup() {
    useEchoPublic('match.1', 'ScoreChanged', reports('score'));
    const chat = useEcho('chat.1', ['MessageSent', '.said'], reports('message'));
    const lobby = useEchoPresence('lobby', '.waved', reports('waved'));
    useEchoNotification('App.Models.User.7', reports('notification'), NOTIFICATION);
    useEchoModel('App.Models.Order', 7, 'OrderUpdated', reports('order'));
    onMounted(() => hear(chat.channel(), lobby.channel()));
    return () => h('button', { id: 'whisper', onClick: () => chat.channel().whisper('typing', { by: user }) }, 'whisper');
  },
};

const App = {
  setup() {
    const open = ref(true);
    const status = useConnectionStatus();
    const socket = useSocketId();
    watch(status, reports('status'), { immediate: true, flush: 'sync' });
    return () => [
      h('p', { id: 'socket' }, socket.value),
      h('button', { id: 'toggle', onClick: () => { open.value = !open.value; } }, open.value ? 'leave' : 'enter'),
      open.value && h(Room),
    ];
  },
};

createApp(App).mount('#app');
