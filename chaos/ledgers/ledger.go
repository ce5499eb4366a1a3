// zeroloss's ledger for Go: what a task body calls, so that the harness knows what was executed.
//
//	err := Effect(task.ID, payload, 0, func() error { ... the work ... })
//
// `payload` is the JSON text that arrived, compared byte for byte (nil: none); `attempt` the number of this delivery (0:
// not known). Without ZEROLOSS_LEDGER in the environment it only runs the body. One file a process, one write an event.
// What a line means: docs/ledger.md of zeroloss. Standard library only, Go 1.21 or later, Linux; copy it freely.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

const (
	shownCalls    = 3
	shownBytesMax = 4096
	errorMax      = 500
)

type ledgerEvent struct {
	T         int64  `json:"t"`
	Pid       int    `json:"pid"`
	Kind      string `json:"kind"`
	Phase     string `json:"phase"`
	Task      string `json:"task"`
	Execution string `json:"execution"`
	Attempt   int    `json:"attempt,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Payload   string `json:"payload,omitempty"`
	Error     string `json:"error,omitempty"`
}

var ledger struct {
	sync.Mutex
	file   *os.File
	prefix string
	calls  int
}

// Effect records that the body of a task begins, and that it ends, fails or panics.
func Effect(task string, payload []byte, attempt int, body func() error) (err error) {
	directory := os.Getenv("ZEROLOSS_LEDGER")
	if directory == "" {
		return body()
	}
	event := ledgerEvent{Phase: "begin", Task: task, Attempt: attempt}
	if event.Execution, err = nextExecution(directory, payload, &event); err != nil {
		return err
	}
	if payload != nil {
		sum := sha256.Sum256(payload)
		event.Digest = hex.EncodeToString(sum[:])
	}
	if err = record(event); err != nil {
		return err
	}
	event = ledgerEvent{Phase: "end", Task: task, Execution: event.Execution}
	defer func() {
		panicked := recover()
		if panicked != nil || err != nil {
			event.Phase, event.Error = "error", errorText(err, panicked)
		}
		if failed := record(event); failed != nil && err == nil {
			err = failed
		}
		if panicked != nil {
			panic(panicked)
		}
	}()
	return body()
}

func errorText(err error, panicked any) string {
	text := fmt.Sprintf("panic: %v", panicked)
	if panicked == nil {
		text = fmt.Sprintf("%T: %v", err, err)
	}
	return strings.ToValidUTF8(text[:min(len(text), errorMax)], "?")
}

func nextExecution(directory string, payload []byte, event *ledgerEvent) (string, error) {
	ledger.Lock()
	defer ledger.Unlock()
	if ledger.file == nil {
		name := fmt.Sprintf("%s/worker-%d.jsonl", directory, os.Getpid())
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return "", err
		}
		random := make([]byte, 4) // the next process may get the same pid
		rand.Read(random)
		ledger.file, ledger.prefix = file, fmt.Sprintf("%d-%x", os.Getpid(), random)
	}
	ledger.calls++
	if ledger.calls <= shownCalls && len(payload) <= shownBytesMax {
		event.Payload = strings.ToValidUTF8(string(payload), "?")
	}
	return fmt.Sprintf("%s-%d", ledger.prefix, ledger.calls), nil
}

func record(event ledgerEvent) error {
	event.T, event.Pid, event.Kind = monotonic(), os.Getpid(), "effect"
	line, err := json.Marshal(event)
	if err != nil {
		return err
	}
	written, err := ledger.file.Write(append(line, '\n'))
	if err == nil && written != len(line)+1 {
		err = errors.New("an event of the ledger could not be written in full")
	}
	return err
}

// The kernel's CLOCK_MONOTONIC, ns. The package `time` has it only as a difference between two moments.
func monotonic() int64 {
	const clockMonotonic = 1
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}
