#include "tests/runtime/files/odd_file_systems.h"

namespace trefoil {

class PassingFileSystem::File final : public WritableFile {
 public:
  File(PassingFileSystem& fs, std::string path, std::unique_ptr<WritableFile> base)
      : fs_(fs), path_(std::move(path)), base_(std::move(base)) {}
  absl::Status Append(std::span<const std::byte> bytes) override {
    TREFOIL_RETURN_IF_ERROR(fs_.Changing(path_));
    return base_->Append(bytes);
  }
  absl::Status Flush() override { return base_->Flush(); }
  absl::Status Close() override {
    TREFOIL_RETURN_IF_ERROR(fs_.Changing(path_));
    return base_->Close();
  }

 private:
  PassingFileSystem& fs_;
  const std::string path_;
  const std::unique_ptr<WritableFile> base_;
};

absl::StatusOr<std::unique_ptr<WritableFile>> PassingFileSystem::Create(const std::string& path) {
  TREFOIL_RETURN_IF_ERROR(Changing(path));
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.Create(Real(path)));
  return std::make_unique<File>(*this, path, std::move(base));
}
absl::StatusOr<std::unique_ptr<WritableFile>> PassingFileSystem::Extend(const std::string& path, int64_t bytes) {
  TREFOIL_RETURN_IF_ERROR(Changing(path));
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.Extend(Real(path), bytes));
  return std::make_unique<File>(*this, path, std::move(base));
}
absl::StatusOr<std::unique_ptr<ReadableFile>> PassingFileSystem::Open(const std::string& path) {
  return base_.Open(Real(path));
}
absl::Status PassingFileSystem::Rename(const std::string& from, const std::string& to) {
  TREFOIL_RETURN_IF_ERROR(Changing(from));
  return base_.Rename(Real(from), Real(to));
}
absl::Status PassingFileSystem::RenameIfFree(const std::string& from, const std::string& to) {
  TREFOIL_RETURN_IF_ERROR(Changing(from));
  return base_.RenameIfFree(Real(from), Real(to));
}
absl::Status PassingFileSystem::MakeFolder(const std::string& path) {
  TREFOIL_RETURN_IF_ERROR(Changing(path));
  return base_.MakeFolder(Real(path));
}
absl::Status PassingFileSystem::FlushFolder(const std::string& path) { return base_.FlushFolder(Real(path)); }
absl::Status PassingFileSystem::Remove(const std::string& path) {
  TREFOIL_RETURN_IF_ERROR(Changing(path));
  return base_.Remove(Real(path));
}
bool PassingFileSystem::Exists(const std::string& path) { return base_.Exists(Real(path)); }
absl::StatusOr<std::vector<std::string>> PassingFileSystem::List(const std::string& path) {
  return base_.List(Real(path));
}
absl::StatusOr<double> PassingFileSystem::ModifiedSeconds(const std::string& path) {
  return base_.ModifiedSeconds(Real(path));
}
absl::Status PassingFileSystem::Touch(const std::string& path) { return base_.Touch(Real(path)); }
absl::StatusOr<int64_t> PassingFileSystem::FreeBytes(const std::string& path) { return base_.FreeBytes(Real(path)); }

}  // namespace trefoil
