# frozen_string_literal: true

# A stand-in for your queue, so that what `zeroloss init` wrote runs: put your worker and your client in its place.
#
#     ruby queue.rb worker            takes tasks by BRPOP, and loses what it holds when it is killed
#     ruby queue.rb worker reliable   takes each under a lease, after which another worker takes it again
#     ruby queue.rb client            submits what it reads, by zeroloss's lines: docs/ledger.md
require "json"
require "socket"
require "uri"
require_relative "ledger"

LEASE_MS = 2000
PENDING = "#{ENV.fetch("ZEROLOSS_NAMESPACE")}:pending"
HELD = "#{ENV.fetch("ZEROLOSS_NAMESPACE")}:held"
CLAIM = <<~LUA
  local now = redis.call("TIME")
  local ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local task = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ms, "LIMIT", 0, 1)[1] or redis.call("RPOP", KEYS[1])
  if task then redis.call("ZADD", KEYS[2], ms + ARGV[1], task) end
  return task
LUA

# Speaks RESP to a server, one command at a time.
class Redis
  def initialize
    url = URI(ENV.fetch("REDIS_URL"))
    @socket = TCPSocket.new(url.host, url.port || 6379)
    call("AUTH", url.user.to_s.empty? ? "default" : url.user, URI.decode_www_form_component(url.password)) if url.password
    call("SELECT", url.path.to_s.delete_prefix("/").then { |database| database.empty? ? "0" : database })
  end

  def call(*words)
    parts = words.map { |word| word.to_s.b }
    @socket.write("*#{parts.size}\r\n".b + parts.map { |part| "$#{part.bytesize}\r\n".b + part + "\r\n" }.join)
    reply
  end

  private

  def reply
    line = @socket.gets("\r\n") or raise EOFError, "the connection was closed"
    kind, rest = line[0], line[1..].chomp("\r\n")
    case kind
    when "+" then rest
    when "-" then raise rest
    when ":" then rest.to_i
    when "$" then rest.to_i.negative? ? nil : bulk(rest.to_i)
    else rest.to_i.negative? ? nil : Array.new(rest.to_i) { reply }
    end
  end

  def bulk(bytes)
    text = @socket.read(bytes + 2)
    raise EOFError, "the connection was closed" unless text&.bytesize == bytes + 2

    text.byteslice(0, bytes)
  end
end

def worker(reliable)
  redis = Redis.new
  loop do
    task = reliable ? redis.call("EVAL", CLAIM, 2, PENDING, HELD, LEASE_MS) : redis.call("BRPOP", PENDING, 1)&.last
    unless task
      sleep 0.05 if reliable
      next
    end
    payload = JSON.parse(task)
    ZeroLoss.effect(payload["id"], payload: task) { sleep payload["work_ms"] / 1000.0 }
    redis.call("ZREM", HELD, task) if reliable
  end
end

def client
  $stdout.sync = true
  redis = nil
  $stdin.each_line do |line|
    request = JSON.parse(line)
    answer = { request: request["request"], outcome: "ok" }
    begin
      redis ||= Redis.new
      redis.call("LPUSH", PENDING, request["payload"])
    rescue StandardError => e
      redis = nil # the next request connects again
      answer = { request: request["request"], outcome: "unknown", error: "#{e.class}: #{e.message}" }
    end
    puts JSON.generate(answer)
  end
end

ARGV[0] == "client" ? client : worker(ARGV[1] == "reliable")
