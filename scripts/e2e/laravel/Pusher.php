<?php

// What Laravel's PusherBroadcaster calls of the library pusher/pusher-php-server.
// The library itself is on Packagist only, which not every machine that runs
// these tests reaches; so the tests bring the few methods, with the library's
// habits on the wire: array parameters are signed joined by commas, one channel
// goes as "channel", and any status but 200 is an exception.

namespace Pusher;

class ApiErrorException extends \RuntimeException
{
}

class Pusher
{
    public function __construct(private string $key, private string $secret, private string $appId, private array $options = [])
    {
    }

    public function trigger($channels, string $event, $data, array $params = [], bool $alreadyEncoded = false): object
    {
        $channels = is_string($channels) ? [$channels] : array_values($channels);
        $post = ['name' => $event, 'data' => $alreadyEncoded ? $data : json_encode($data)];
        if (count($channels) === 1) {
            $post['channel'] = $channels[0];
        } else {
            $post['channels'] = $channels;
        }

        return $this->request('POST', '/events', [], json_encode($post + $params));
    }

    public function get(string $path, array $params = []): object
    {
        return $this->request('GET', $path, $params, '');
    }

    public function socket_auth(string $channel, string $socketId, ?string $custom = null): string
    {
        $text = "$socketId:$channel".($custom === null ? '' : ":$custom");
        $answer = ['auth' => $this->key.':'.hash_hmac('sha256', $text, $this->secret)];
        if (str_starts_with($channel, 'private-encrypted-')) {
            $master = base64_decode($this->options['encryption_master_key_base64']);
            $answer['shared_secret'] = base64_encode(hash('sha256', $channel.$master, true));
        }

        return json_encode($custom === null ? $answer : $answer + ['channel_data' => $custom]);
    }

    public function presence_auth(string $channel, string $socketId, string $userId, $userInfo = null): string
    {
        return $this->socket_auth($channel, $socketId, json_encode(
            ['user_id' => $userId] + ($userInfo ? ['user_info' => $userInfo] : [])
        ));
    }

    private function request(string $method, string $path, array $params, string $body): object
    {
        $path = '/apps/'.$this->appId.$path;
        $query = $params + ['auth_key' => $this->key, 'auth_timestamp' => time(), 'auth_version' => '1.0'];
        if ($body !== '') {
            $query['body_md5'] = md5($body);
        }
        $signed = array_map(fn ($v) => is_array($v) ? implode(',', $v) : $v, $query);
        ksort($signed);
        $text = implode('&', array_map(fn ($k, $v) => "$k=$v", array_keys($signed), $signed));
        $query['auth_signature'] = hash_hmac('sha256', "$method\n$path\n$text", $this->secret);

        $o = $this->options;
        $curl = curl_init("{$o['scheme']}://{$o['host']}:{$o['port']}$path?".http_build_query($query));
        curl_setopt_array($curl, [
            CURLOPT_RETURNTRANSFER => true, CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_HTTPHEADER => ['Content-Type: application/json', 'X-Pusher-Library: pusher-http-php 7.2.4'],
        ] + ($body === '' ? [] : [CURLOPT_POSTFIELDS => $body]));
        $answer = curl_exec($curl);
        if ($answer === false) {
            throw new ApiErrorException(curl_error($curl));
        }
        if (curl_getinfo($curl, CURLINFO_RESPONSE_CODE) !== 200) {
            throw new ApiErrorException(trim($answer), curl_getinfo($curl, CURLINFO_RESPONSE_CODE));
        }

        return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
    }
}
