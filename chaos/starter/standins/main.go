// A stand-in for your queue, so that what `zeroloss init` wrote runs: put your worker and your client in its place.
//
//	queue worker            takes tasks by BRPOP, and loses what it holds when it is killed
//	queue worker reliable   takes each under a lease, after which another worker takes it again
//	queue client            submits what it reads, by zeroloss's lines: docs/ledger.md
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	leaseMs = "2000"
	claim   = `
local now = redis.call("TIME")
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local task = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ms, "LIMIT", 0, 1)[1] or redis.call("RPOP", KEYS[1])
if task then redis.call("ZADD", KEYS[2], ms + ARGV[1], task) end
return task`
)

var (
	pending = os.Getenv("ZEROLOSS_NAMESPACE") + ":pending"
	held    = os.Getenv("ZEROLOSS_NAMESPACE") + ":held"
)

// Redis speaks RESP to a server, one command at a time.
type Redis struct {
	connection net.Conn
	reader     *bufio.Reader
}

func openRedis() (*Redis, error) {
	where, err := url.Parse(os.Getenv("REDIS_URL"))
	if err != nil {
		return nil, err
	}
	connection, err := net.Dial("tcp", where.Host)
	if err != nil {
		return nil, err
	}
	redis := &Redis{connection, bufio.NewReader(connection)}
	if password, set := where.User.Password(); set {
		user := where.User.Username()
		if user == "" {
			user = "default"
		}
		if _, err = redis.call("AUTH", user, password); err != nil {
			return nil, err
		}
	}
	if database := strings.TrimPrefix(where.Path, "/"); database != "" {
		_, err = redis.call("SELECT", database)
	}
	return redis, err
}

func (redis *Redis) call(words ...string) (any, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(redis.connection, text.String()); err != nil {
		return nil, err
	}
	return redis.reply()
}

// reply is nil, an int, a string or a list of these.
func (redis *Redis) reply() (any, error) {
	line, err := redis.reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	}
	count, err := strconv.Atoi(rest)
	if err != nil || kind == ':' {
		return count, err
	}
	if count < 0 {
		return nil, nil
	}
	if kind == '$' {
		text := make([]byte, count+2)
		_, err = io.ReadFull(redis.reader, text)
		return string(text[:count]), err
	}
	members := make([]any, count)
	for number := range members {
		if members[number], err = redis.reply(); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func take(redis *Redis, reliable bool) (any, error) {
	if reliable {
		return redis.call("EVAL", claim, "2", pending, held, leaseMs)
	}
	popped, err := redis.call("BRPOP", pending, "1")
	if members, ok := popped.([]any); ok {
		return members[1], err
	}
	return nil, err
}

func work(reliable bool) error {
	redis, err := openRedis()
	for err == nil {
		var found any
		if found, err = take(redis, reliable); err != nil {
			break
		}
		task, ok := found.(string)
		if !ok {
			if reliable {
				time.Sleep(50 * time.Millisecond)
			}
			continue
		}
		var payload struct {
			ID     string  `json:"id"`
			WorkMs float64 `json:"work_ms"`
		}
		if err = json.Unmarshal([]byte(task), &payload); err != nil {
			break
		}
		err = Effect(payload.ID, []byte(task), 0, func() error {
			time.Sleep(time.Duration(payload.WorkMs) * time.Millisecond)
			return nil
		})
		if err == nil && reliable {
			_, err = redis.call("ZREM", held, task)
		}
	}
	return err
}

func submit() error {
	type Answer struct {
		Request int    `json:"request"`
		Outcome string `json:"outcome"`
		Error   string `json:"error,omitempty"`
	}
	var redis *Redis
	lines := json.NewDecoder(os.Stdin)
	for {
		var request struct {
			Request int    `json:"request"`
			Payload string `json:"payload"`
		}
		err := lines.Decode(&request)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		answer := Answer{Request: request.Request, Outcome: "ok"}
		if redis == nil {
			redis, err = openRedis()
		}
		if err == nil {
			_, err = redis.call("LPUSH", pending, request.Payload)
		}
		if err != nil {
			redis = nil // the next request connects again
			answer.Outcome, answer.Error = "unknown", err.Error()
		}
		if err = json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			return err
		}
	}
}

func main() {
	words := append(os.Args, "", "")
	var err error
	if words[1] == "client" {
		err = submit()
	} else {
		err = work(words[2] == "reliable")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
