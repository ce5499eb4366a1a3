# frozen_string_literal: true

# The client of `sidekiq`: submits what it reads, by zeroloss's lines (docs/ledger.md).
require "sidekiq"

$stdout.sync = true
Sidekiq.redis = { url: ENV.fetch("REDIS_URL"), reconnect_attempts: 0 } # a lost reply is not asked for again
$stdin.each_line do |line|
  request = JSON.parse(line)
  answer = { request: request["request"], outcome: "ok" }
  begin
    Sidekiq::Client.push("class" => "Work", "args" => [JSON.parse(request["payload"])])
  rescue StandardError => e
    answer = { request: request["request"], outcome: "unknown", error: "#{e.class}: #{e.message}" }
  end
  puts JSON.generate(answer)
end
