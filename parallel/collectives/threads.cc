// Ranks as threads of one process. A message goes into its receiver's mailbox at once, as a copy or, by rendezvous, as the
// place where its bytes are; a receiver waits on its mailbox's condition variable, the sender of a rendezvous on that of
// the message's receipt.
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "parallel/collectives/point_to_point_group.h"
#include "parallel/collectives/world.h"

namespace trefoil {
namespace {

// Of a message that is taken out of the sender's memory.
class Receipt {
 public:
  void Sign() {
    std::lock_guard lock(mutex_);
    taken_ = true;
    signed_.notify_all();
  }
  bool taken() {
    std::lock_guard lock(mutex_);
    return taken_;
  }
  bool WaitBefore(Transport::Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return signed_.wait_until(lock, deadline, [&] { return taken_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable signed_;
  bool taken_ = false;
};

struct Letter {
  const void* data = nullptr;
  int64_t bytes = 0;
  std::unique_ptr<char[]> copy = nullptr;      // where data is, or
  std::shared_ptr<Receipt> receipt = nullptr;  // data is the sender's
};

class Mailbox {
 public:
  // Letters from one rank under one tag are numbered, so that each is taken by the receive that was started for it.
  using Key = std::tuple<int, int, int64_t>;  // from, tag, number

  void Put(const Key& key, Letter letter) {
    std::lock_guard lock(mutex_);
    letters_.emplace(key, std::move(letter));
    arrived_.notify_all();
  }
  bool Take(const Key& key, Letter* letter) {
    std::lock_guard lock(mutex_);
    return TakeLocked(key, letter);
  }
  bool TakeBefore(const Key& key, Transport::Clock::time_point deadline, Letter* letter) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_until(lock, deadline, [&] { return TakeLocked(key, letter); });
  }

 private:
  bool TakeLocked(const Key& key, Letter* letter) {
    const auto found = letters_.find(key);
    if (found == letters_.end()) return false;
    *letter = std::move(found->second);
    letters_.erase(found);
    return true;
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<Key, Letter> letters_;
};

// Where the threads find each other: one per RunRanksAsThreads.
class Hub {
 public:
  using Mailboxes = std::vector<std::unique_ptr<Mailbox>>;  // one per rank of a group

  // The same for every member: `instance` counts the groups that a rank made with this name and these ranks.
  std::shared_ptr<Mailboxes> Find(const std::string& name, const std::vector<int>& ranks, int instance) {
    std::lock_guard lock(mutex_);
    auto& mailboxes = groups_[{name, ranks, instance}];
    if (mailboxes == nullptr) {
      mailboxes = std::make_shared<Mailboxes>();
      for (size_t i = 0; i < ranks.size(); ++i) mailboxes->push_back(std::make_unique<Mailbox>());
    }
    return mailboxes;
  }

 private:
  std::mutex mutex_;
  std::map<std::tuple<std::string, std::vector<int>, int>, std::shared_ptr<Mailboxes>> groups_;
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Hub::Mailboxes> mailboxes, const Membership& membership, bool rendezvous)
      : mailboxes_(std::move(mailboxes)), membership_(membership), rank_(membership.place), rendezvous_(rendezvous) {}

  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override {
    Letter letter{.data = data, .bytes = bytes};
    std::shared_ptr<Receipt> receipt;
    if (rendezvous_) {
      letter.receipt = receipt = std::make_shared<Receipt>();
    } else {
      letter.copy = std::make_unique_for_overwrite<char[]>(bytes);
      letter.data = letter.copy.get();
      if (bytes > 0) std::memcpy(letter.copy.get(), data, bytes);
    }
    (*mailboxes_)[to]->Put({rank_, tag, sent_[{to, tag}]++}, std::move(letter));
    return std::make_unique<SentMessage>(std::move(receipt));
  }
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override {
    const Mailbox::Key key = {from, tag, received_[{from, tag}]++};
    return std::make_unique<AwaitedMessage>(membership_, *(*mailboxes_)[rank_], key, data, bytes);
  }
  bool Wait(Message& message, Clock::time_point deadline) override {
    return static_cast<WaitingMessage&>(message).Wait(deadline);
  }
  bool moves() const override { return true; }
  [[noreturn]] void Abort(const std::string& message) override {
    LOG(FATAL) << message;
    __builtin_unreachable();
  }

 private:
  class WaitingMessage : public Message {
   public:
    virtual bool Wait(Clock::time_point deadline) = 0;
  };
  class SentMessage : public WaitingMessage {
   public:
    explicit SentMessage(std::shared_ptr<Receipt> receipt) : receipt_(std::move(receipt)) {}
    bool Done() override { return receipt_ == nullptr || receipt_->taken(); }
    bool Wait(Clock::time_point deadline) override { return receipt_ == nullptr || receipt_->WaitBefore(deadline); }

   private:
    const std::shared_ptr<Receipt> receipt_;
  };
  class AwaitedMessage : public WaitingMessage {
   public:
    AwaitedMessage(const Membership& membership, Mailbox& mailbox, const Mailbox::Key& key, void* data, int64_t bytes)
        : membership_(membership), mailbox_(mailbox), key_(key), data_(data), bytes_(bytes) {}
    bool Done() override {
      Letter letter;
      if (!done_ && mailbox_.Take(key_, &letter)) Open(letter);
      return done_;
    }
    bool Wait(Clock::time_point deadline) override {
      Letter letter;
      if (!done_ && mailbox_.TakeBefore(key_, deadline, &letter)) Open(letter);
      return done_;
    }

   private:
    void Open(const Letter& letter) {
      CHECK_EQ(letter.bytes, bytes_) << "group \"" << membership_.group << "\": "
                                     << membership_.NameOf(std::get<0>(key_))
                                     << " sent another number of bytes than expected";
      if (bytes_ > 0) std::memcpy(data_, letter.data, bytes_);
      if (letter.receipt != nullptr) letter.receipt->Sign();
      done_ = true;
    }
    const Membership& membership_;
    Mailbox& mailbox_;
    const Mailbox::Key key_;
    void* const data_;
    const int64_t bytes_;
    bool done_ = false;
  };

  const std::shared_ptr<Hub::Mailboxes> mailboxes_;
  const Membership membership_;
  const int rank_;
  const bool rendezvous_;
  std::map<std::pair<int, int>, int64_t> sent_, received_;  // by (peer, tag)
};

class ThreadWorld : public World {
 public:
  ThreadWorld(Hub& hub, int rank, int size, std::shared_ptr<const Hosts> hosts, bool rendezvous)
      : hub_(hub),
        rank_(rank),
        size_(size),
        rendezvous_(rendezvous),
        hosts_(std::move(hosts)),
        all_(NewGroupOfAll(*host_)) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return hosts_->LocalRank(rank_); }
  int local_size() const override { return hosts_->LocalSize(rank_); }
  const Hosts& hosts() const override { return *hosts_; }
  Group& all() override { return *all_; }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    CHECK(sums == RankSums::kOrdered) << "group " << name << ": threads have no library whose collectives add up";
    return NewGroupWith(name, ranks, device, patience_);
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) override {
    return NewGroupWith(name, all_->membership().ranks, *host_, patience_->In(phase));
  }
  Patience& patience() override { return *patience_; }

 private:
  std::unique_ptr<Group> NewGroupWith(const std::string& name, const std::vector<int>& ranks, Device& device,
                                      std::shared_ptr<Patience> patience) {
    const int place = PlaceInGroup(name, ranks, rank_);
    CHECK_LT(ranks.back(), size_) << "group " << name;
    auto mailboxes = hub_.Find(name, ranks, instances_[{name, ranks}]++);
    const Membership membership = {
        .group = name, .ranks = ranks, .place = place, .hosts = hosts_, .patience = std::move(patience)};
    return std::make_unique<PointToPointGroup>(membership, device,
                                               std::make_unique<ThreadTransport>(std::move(mailboxes), membership, rendezvous_));
  }

  Hub& hub_;
  const int rank_, size_;
  const bool rendezvous_;
  const std::shared_ptr<const Hosts> hosts_;
  const std::shared_ptr<Patience> patience_ = std::make_shared<Patience>();
  std::map<std::pair<std::string, std::vector<int>>, int> instances_;
  const std::unique_ptr<Device> host_ = NewCpuDevice(/*threads=*/1);
  const std::unique_ptr<Group> all_;
};

}  // namespace

void RunRanksAsThreads(int ranks, const std::function<void(World&)>& body, const ThreadRanks& options) {
  CHECK_GE(ranks, 1);
  CHECK(options.hosts.empty() || options.hosts.size() == static_cast<size_t>(ranks));
  const auto hosts = options.hosts.empty() ? std::make_shared<const Hosts>("localhost", ranks)
                                           : std::make_shared<const Hosts>(options.hosts);
  Hub hub;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadWorld world(hub, rank, ranks, hosts, options.rendezvous);
      body(world);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace trefoil
