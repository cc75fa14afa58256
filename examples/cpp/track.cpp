// Tracks a video: track BUNDLE VIDEO X Y W H [THREADS]
//
// VIDEO is what cv::VideoCapture takes, such as a file or img/%06d.jpg. A line of CSV for each
// frame goes to standard output, what it took to standard error. Exit status: 0 success, 1 a
// failure named in one line, 2 wrong usage.
#include "edge_tracker.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include <opencv2/videoio.hpp>

namespace {

void print(long frame, const edge_tracker::Result& result) {
  const auto& [x, y, w, h] = std::tie(result.box.x, result.box.y, result.box.width,
                                      result.box.height);
  std::printf("%ld,%.6f,%.6f,%.6f,%.6f,%.6f,%d", frame, x, y, w, h, result.score, result.found);
  for (const double std_px : result.edge_std_px) std::printf(",%.6f", std_px);
  std::printf("\n");
}

void track(const std::string& bundle, const std::string& video, const cv::Rect2d& box,
           int threads) {
  // FFmpeg would take images too, and decodes a JPEG to other pixels than OpenCV's own reader.
  const bool images = video.find('%') != std::string::npos;
  cv::VideoCapture source(video, images ? cv::CAP_IMAGES : cv::CAP_ANY);
  cv::Mat frame;
  if (!source.read(frame)) throw std::runtime_error(video + " cannot be read as a video");
  edge_tracker::Tracker tracker(bundle, threads);
  tracker.init(frame, box);
  std::printf("frame,x,y,w,h,score,found,std_left,std_top,std_right,std_bottom\n");
  print(0, {box, 1.0, true, {}, {}});
  std::vector<double> update_ms;
  while (source.read(frame)) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = tracker.update(frame);
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    update_ms.push_back(taken.count());
    print(static_cast<long>(update_ms.size()), result);
  }
  if (update_ms.empty()) return;
  std::sort(update_ms.begin(), update_ms.end());
  std::fprintf(stderr, "%zu frames, update() median %.3f ms, p95 %.3f ms\n", update_ms.size(),
               update_ms[update_ms.size() / 2], update_ms[update_ms.size() * 95 / 100]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7 && argc != 8) {
    std::fprintf(stderr, "usage: %s BUNDLE VIDEO X Y W H [THREADS]\n", argv[0]);
    return 2;
  }
  try {
    const cv::Rect2d box(std::stod(argv[3]), std::stod(argv[4]), std::stod(argv[5]),
                         std::stod(argv[6]));
    track(argv[1], argv[2], box, argc == 8 ? std::stoi(argv[7]) : 0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "track: error: %s\n", error.what());
    return 1;
  }
  return 0;
}
