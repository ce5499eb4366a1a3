# frozen_string_literal: true

# The application of `sidekiq-reliable`: a fetch for Sidekiq 6 by which a job is in Redis until it has run, as
# BRPOPLPUSH moves it into a list of the process.
require "securerandom"
require_relative "sidekiq_app"

class ReliableFetch
  ALIVE_S = 3
  PROCESSES = "reliable:processes"

  Job = Struct.new(:queue, :job, :held) do
    def acknowledge
      Sidekiq.redis { |redis| redis.lrem(held, 1, job) }
    end

    def queue_name
      queue.delete_prefix("queue:")
    end

    def requeue
      Sidekiq.redis { |redis| redis.multi { |all| all.rpush(queue, job) && all.lrem(held, 1, job) } }
    end
  end

  def initialize
    @queue = "queue:default"
    @identity = "#{Process.pid}-#{SecureRandom.hex(8)}"
    @held = held(@identity)
    tick # before the first job, so that none is in an unregistered list
    Thread.new { loop { keep_ticking } }
  end

  def retrieve_work
    job = Sidekiq.redis { |redis| redis.brpoplpush(@queue, @held, timeout: 2) }
    Job.new(@queue, job, @held) if job
  end

  def bulk_requeue(jobs, _options)
    jobs.each(&:requeue)
  end

  private

  def held(identity)
    "reliable:held:#{identity}"
  end

  def keep_ticking
    sleep 1
    tick
  rescue StandardError => e
    Sidekiq.logger.warn("reliable fetch: #{e.class}: #{e.message}")
  end

  def tick
    Sidekiq.redis do |redis|
      redis.sadd(PROCESSES, @identity)
      redis.set("reliable:alive:#{@identity}", "1", ex: ALIVE_S)
      redis.smembers(PROCESSES).each do |identity|
        next if redis.exists?("reliable:alive:#{identity}")

        nil while redis.rpoplpush(held(identity), @queue)
        redis.srem(PROCESSES, identity)
      end
    end
  end
end

Sidekiq.options[:fetch] = ReliableFetch.new
