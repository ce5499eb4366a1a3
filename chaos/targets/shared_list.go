// The worker of `shared-list-go`.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Redis speaks as much of RESP as the worker needs: a reply is a number, a text, or nothing.
type Redis struct {
	net.Conn
	*bufio.Reader
}

func (redis Redis) call(words ...string) (string, bool) {
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	_, err := io.WriteString(redis.Conn, command.String())
	check(err)
	line, err := redis.ReadString('\n')
	check(err)
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	if kind == '-' {
		check(errors.New(rest))
	}
	if kind != '$' && kind != '*' {
		return rest, true
	}
	count, err := strconv.Atoi(rest)
	check(err)
	if count < 0 {
		return "", false
	}
	text := make([]byte, count+len("\r\n"))
	_, err = io.ReadFull(redis.Reader, text)
	check(err)
	return string(text[:count]), true
}

// The harness starts a worker that has ended again.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	where, err := url.Parse(os.Getenv("REDIS_URL"))
	check(err)
	connection, err := net.Dial("tcp", where.Host)
	check(err)
	redis := Redis{connection, bufio.NewReader(connection)}
	redis.call("SELECT", strings.TrimPrefix(where.Path, "/"))
	pending := os.Getenv("ZEROLOSS_NAMESPACE") + ":pending"
	processing := os.Getenv("ZEROLOSS_NAMESPACE") + ":processing"
	for {
		element, found := redis.call("BRPOPLPUSH", pending, processing, "1")
		if !found {
			continue
		}
		var task struct {
			ID     string  `json:"id"`
			WorkMs float64 `json:"work_ms"`
		}
		check(json.Unmarshal([]byte(element), &task))
		err := Effect(task.ID, []byte(element), 0, func() error {
			time.Sleep(time.Duration(task.WorkMs) * time.Millisecond)
			return nil
		})
		redis.call("LREM", processing, "1", element)
		if err != nil {
			redis.call("RPUSH", pending, element)
		}
	}
}
