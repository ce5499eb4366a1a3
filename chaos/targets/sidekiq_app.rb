# frozen_string_literal: true

# The application of `sidekiq`, and of `sidekiq-reliable`.
require "sidekiq"
require_relative "../ledgers/ledger"

Sidekiq.strict_args!

class Work
  include Sidekiq::Job

  def perform(payload)
    ZeroLoss.effect(payload["id"], payload: payload) { sleep payload["work_ms"] / 1000.0 }
  end
end
