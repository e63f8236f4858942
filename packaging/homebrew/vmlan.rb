# Formula of Homebrew. Nothing is released yet, so it builds the head of a repository: put the address of yours below.
class Vmlan < Formula
  desc "Ethernet networks for virtual machines, from user space"
  homepage "https://vmlan.invalid/"
  license any_of: ["MIT", "Apache-2.0"]
  head "https://vmlan.invalid/vmlan.git", branch: "main"

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/vmlan")
    generate_completions_from_executable(bin/"vmlan", "completions", shells: [:bash, :zsh, :fish])
    system bin/"vmlan", "man", "--directory", man1
    man5.install "docs/vmlan.toml.5"
    pkgetc.install "packaging/vmlan.toml"
  end

  service do
    run [opt_bin/"vmlan", "run", etc/"vmlan/vmlan.toml"]
    keep_alive successful_exit: false
    log_path var/"log/vmlan.log"
    error_log_path var/"log/vmlan.log"
  end

  test do
    (testpath/"vmlan.toml").write "[network.lab]\n"
    assert_match "1 network", shell_output("#{bin}/vmlan check vmlan.toml")
  end
end
