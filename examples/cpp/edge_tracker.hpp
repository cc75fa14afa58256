// A bundle tracked in C++: OpenCV, OpenVINO and the rules of docs/bundle_format.md. One header, to
// be copied into other programs.
//
//     edge_tracker::Tracker tracker("demo_output/bundle");
//     tracker.init(first_frame, {200, 189, 79, 79});
//     edge_tracker::Result result = tracker.update(next_frame);
//
// Frames are CV_8UC3, BGR; boxes x, y, width, height in pixels of the frame. A tracker is for one
// thread at a time. Everything that fails throws std::runtime_error or one of OpenVINO's and
// OpenCV's own exceptions, which derive from std::exception.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>
#include <openvino/openvino.hpp>

namespace edge_tracker {

// The fields of the manifest's `tracker`, with the defaults that the page states.
struct Options {
  double template_factor = 2.0;
  double search_factor = 4.5;
  long update_interval = 25;
  double update_score = 0.5;
  double clip_margin_px = 10;
  double lost_score = 0.3;
  long lost_frames = 5;
  double found_score = 0.5;
  std::optional<double> lost_search_factor;
};

// edge_std_px: standard deviation of the left, top, right and bottom edge. presence: probability
// that the box overlaps the target by more than half, where the bundle tells it.
struct Result {
  cv::Rect2d box;
  double score = 1.0;
  bool found = true;
  std::array<double, 4> edge_std_px{};
  std::optional<double> presence;
};

// The manifest's `presence`.
struct PresenceModel {
  double intercept, found_presence;
  std::map<std::string, double> weights;
};

// The square around a box, resized to size_px, and its side in pixels of the frame.
struct Crop {
  cv::Mat pixels;
  double side_px;
};

inline Crop crop_square(const cv::Mat& frame, const cv::Rect2d& box, double factor, int size_px) {
  const double wanted_px = std::ceil(std::sqrt(box.width * box.height) * factor);
  if (!(wanted_px >= 1 && wanted_px < 1e5))
    throw std::runtime_error("box of " + std::to_string(box.width) + "x" +
                             std::to_string(box.height) + " px cannot be cropped");
  const int side = static_cast<int>(wanted_px);
  // nearbyint takes halves to the even number, as the rules ask; round would not.
  const int x1 = static_cast<int>(std::nearbyint(box.x + box.width / 2 - side / 2.0));
  const int y1 = static_cast<int>(std::nearbyint(box.y + box.height / 2 - side / 2.0));
  // Where the square reaches the right or bottom border, the last column or row is black too.
  const int end_x = x1 + side >= frame.cols ? frame.cols - 1 : frame.cols;
  const int end_y = y1 + side >= frame.rows ? frame.rows - 1 : frame.rows;
  const cv::Rect window(x1, y1, side, side);
  const cv::Rect seen = window & cv::Rect(0, 0, end_x, end_y);
  cv::Mat resized;
  if (seen == window) {
    cv::resize(frame(window), resized, cv::Size(size_px, size_px));
  } else {
    cv::Mat square = cv::Mat::zeros(side, side, CV_8UC3);
    if (!seen.empty()) frame(seen).copyTo(square(seen - window.tl()));
    cv::resize(square, resized, cv::Size(size_px, size_px));
  }
  return {resized, wanted_px};
}

// One axis of a box, clipped: at least `margin` of it stays inside, and it is at least that long.
struct Span {
  double start, length;
};

inline Span clip_span(double low, double high, double frame_length, double margin) {
  const double start = std::min(std::max(0.0, low), frame_length - margin);
  const double end = std::min(std::max(margin, high), frame_length);
  return {start, std::max(margin, end - start)};
}

// What presence compares: a small picture of the target, in numbers.
struct Look {
  std::array<double, 16 * 16 * 3> pixels;
  std::array<double, 216> colours{};

  Look() = default;
  Look(const cv::Mat& frame, const cv::Rect2d& box) {
    const cv::Mat crop = crop_square(frame, box, 1.0, 16).pixels;
    std::array<double, 3> mean{};
    for (size_t place = 0; place < pixels.size(); ++place) {
      pixels[place] = crop.ptr()[place];
      mean[place % 3] += pixels[place] / 256;
    }
    for (size_t place = 0; place < pixels.size(); place += 3) {
      const auto step = [&](size_t channel) {
        return static_cast<size_t>(pixels[place + channel]) * 6 / 256;
      };
      colours[step(0) * 36 + step(1) * 6 + step(2)] += 1.0 / 256;
    }
    for (size_t place = 0; place < pixels.size(); ++place) pixels[place] -= mean[place % 3];
  }
};

class Tracker {
 public:
  // threads: 0 for all cores. precision: of the OpenVINO artefact, "fp32", "fp16" or "int8".
  explicit Tracker(const std::filesystem::path& bundle, int threads = 0,
                   const std::string& precision = "fp32") {
    const auto manifest_file = bundle / "manifest.json";
    std::ifstream stream(manifest_file);
    if (!stream)
      throw std::runtime_error(manifest_file.string() + " cannot be read: make a bundle with " +
                               "edge-tracker convert");
    const auto manifest = nlohmann::json::parse(stream);
    if (manifest.value("format", "") != "edge_tracker.bundle" ||
        manifest.value("format_version", 0) != 1)
      throw std::runtime_error(bundle.string() + " is not a bundle of format version 1");
    const auto& model = manifest.at("model");
    template_size_px_ = model.at("template_size_px");
    search_size_px_ = model.at("search_size_px");
    bins_ = model.at("bins");
    read_options(manifest.at("tracker"));
    if (manifest.contains("presence") && !manifest.at("presence").is_null()) {
      const auto& stated = manifest.at("presence");
      presence_model_ = PresenceModel{stated.at("intercept"), stated.at("found_presence"),
                                      stated.at("weights")};
    }

    const auto& artefacts = manifest.at("artefacts");
    const auto found = std::find_if(artefacts.begin(), artefacts.end(), [&](const auto& artefact) {
      return artefact.at("format") == "openvino" && artefact.at("precision") == precision;
    });
    if (found == artefacts.end())
      throw std::runtime_error(bundle.string() + " holds no openvino/" + precision +
                               ": convert with --to openvino --precision " + precision);
    const auto& graphs = found->at("graphs");
    auto template_graph = compile(bundle, graphs.at("template"), threads, precision);
    // Two that take turns: the keys and values in use stay while others are made.
    for (auto& request : template_requests_) request = template_graph.create_infer_request();
    search_request_ =
        compile(bundle, graphs.at("search"), threads, precision).create_infer_request();
  }

  void init(const cv::Mat& frame, const cv::Rect2d& box) {
    check(frame);
    if (!(box.width > 0 && box.height > 0))
      throw std::runtime_error("the box has no area: width and height must be above 0");
    wait_for_templates();
    now_ = Result{box, 1.0, true, {}, {}};
    first_look_ = Look(frame, box);
    log_odds_mean_.reset();
    frames_below_ = 0;
    initial_template_ = online_template_ = template_of(frame);
    start_templates();
    start_interval();
  }

  Result update(const cv::Mat& frame) {
    if (initial_template_.empty())
      throw std::runtime_error("update was called before init: call init(frame, box) first");
    check(frame);
    const bool wide = !now_.found && options_.lost_search_factor.has_value();
    const Crop search = crop_square(frame, now_.box,
                                    wide ? *options_.lost_search_factor : options_.search_factor,
                                    search_size_px_);
    wait_for_templates();
    copy_pixels(search.pixels, search_request_.get_tensor("search"), 0);
    search_request_.infer();
    const double score = search_request_.get_tensor("score").data<float>()[0];
    const auto edges = decode(search_request_.get_tensor("edge_probs"), search.side_px);
    if (!std::isfinite(score) || !std::all_of(edges.mean_px.begin(), edges.mean_px.end(),
                                              [](double edge) { return std::isfinite(edge); }))
      throw std::runtime_error("the network returned what are no numbers: take precision fp32");

    // Around the exact centre of the last box, not the whole pixels at which the crop was cut.
    const double corner_x = now_.box.x + now_.box.width / 2 - search.side_px / 2;
    const double corner_y = now_.box.y + now_.box.height / 2 - search.side_px / 2;
    const auto [left, top, right, bottom] = edges.mean_px;
    const double margin = options_.clip_margin_px;
    const Span x = clip_span(corner_x + left, corner_x + right, frame.cols, margin);
    const Span y = clip_span(corner_y + top, corner_y + bottom, frame.rows, margin);
    const cv::Rect2d before = now_.box;
    now_.box = {x.start, y.start, x.length, y.length};
    now_.score = score;
    now_.edge_std_px = edges.std_px;
    if (presence_model_) {
      now_.presence = presence(frame, before);
      now_.found = *now_.presence >= presence_model_->found_presence;
    } else {
      judge_by_score();
    }
    remember_best(frame);
    return now_;
  }

  const Options& options() const { return options_; }

 private:
  struct Edges {
    std::array<double, 4> mean_px, std_px;
  };

  void read_options(const nlohmann::json& stated) {
    const auto take = [&](const char* name, auto& value) {
      if (stated.contains(name)) stated.at(name).get_to(value);
    };
    take("template_factor", options_.template_factor);
    take("search_factor", options_.search_factor);
    take("update_interval", options_.update_interval);
    take("update_score", options_.update_score);
    take("clip_margin_px", options_.clip_margin_px);
    take("lost_score", options_.lost_score);
    take("lost_frames", options_.lost_frames);
    take("found_score", options_.found_score);
    if (stated.contains("lost_search_factor") && !stated.at("lost_search_factor").is_null())
      options_.lost_search_factor = stated.at("lost_search_factor").get<double>();
  }

  // For one target, as the files leave the number of targets open.
  ov::CompiledModel compile(const std::filesystem::path& bundle, const nlohmann::json& graph,
                            int threads, const std::string& precision) {
    const auto path = [&](const char* file) {
      return (bundle / graph.at(file).get<std::string>()).string();
    };
    auto model = core_.read_model(path("model"), path("weights"));
    std::map<std::string, ov::PartialShape> shapes;
    for (const auto& input : model->inputs()) {
      auto shape = input.get_partial_shape();
      shape[0] = 1;
      shapes[input.get_any_name()] = shape;
    }
    model->reshape(shapes);
    ov::AnyMap config{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    // Left alone, OpenVINO takes bfloat16 on CPUs that have it. int8 may have it.
    if (precision != "int8") config.emplace(ov::hint::inference_precision(ov::element::f32));
    if (threads > 0) config.emplace(ov::inference_num_threads(threads));
    return core_.compile_model(model, "CPU", config);
  }

  static void check(const cv::Mat& frame) {
    if (frame.type() != CV_8UC3 || std::min(frame.cols, frame.rows) < 16)
      throw std::runtime_error("a frame must be CV_8UC3, BGR, with sides of at least 16 px");
  }

  // The index-th image of a tensor of uint8 images.
  static void copy_pixels(const cv::Mat& pixels, ov::Tensor tensor, size_t index) {
    const size_t bytes = pixels.total() * pixels.elemSize();
    std::copy_n(pixels.ptr(), bytes, tensor.data<uint8_t>() + index * bytes);
  }

  Edges decode(const ov::Tensor& edge_probs, double side_px) const {
    Edges edges;
    const float* probability = edge_probs.data<float>();
    for (int edge = 0; edge < 4; ++edge) {
      double mean = 0, square = 0;
      for (int bin = 0; bin < bins_; ++bin) {
        const double at = static_cast<double>(bin) / bins_, p = *probability++;
        mean += p * at;
        square += p * at * at;
      }
      edges.mean_px[edge] = side_px * mean;
      edges.std_px[edge] = side_px * std::sqrt(std::max(0.0, square - mean * mean));
    }
    return edges;
  }

  double presence(const cv::Mat& frame, const cv::Rect2d& before) {
    const cv::Rect2d& box = now_.box;
    const double score = std::min(std::max(now_.score, 1e-6), 1 - 1e-6);
    const double log_odds = std::log(score / (1 - score));
    log_odds_mean_ = log_odds_mean_ ? (*log_odds_mean_ + log_odds) / 2 : log_odds;
    const auto [left, top, right, bottom] = now_.edge_std_px;
    const double spread = std::max(std::max(left, right) / box.width,
                                   std::max(top, bottom) / box.height);
    const double way = std::hypot(box.x + box.width / 2 - before.x - before.width / 2,
                                  box.y + box.height / 2 - before.y - before.height / 2) /
                       std::sqrt(before.area());
    const Look look(frame, box);
    double product = 0, squares = 0, first_squares = 0, alike = 0;
    for (size_t place = 0; place < look.pixels.size(); ++place) {
      product += look.pixels[place] * first_look_.pixels[place];
      squares += look.pixels[place] * look.pixels[place];
      first_squares += first_look_.pixels[place] * first_look_.pixels[place];
    }
    for (size_t colour = 0; colour < look.colours.size(); ++colour)
      alike += std::sqrt(look.colours[colour] * first_look_.colours[colour]);
    const std::map<std::string, double> features{
        {"log_odds", log_odds},
        {"log_odds_mean", *log_odds_mean_},
        {"edge_spread", std::log(spread + 1e-3)},
        {"jump", std::log(way + 0.01)},
        {"scale_jump", std::log(std::abs(std::log(box.area() / before.area())) + 0.01)},
        {"similarity", product / std::sqrt(squares * first_squares + 1e-9)},
        {"colours", alike}};
    double total = presence_model_->intercept;
    for (const auto& [name, value] : features) total += presence_model_->weights.at(name) * value;
    return 1 / (1 + std::exp(-std::min(std::max(total, -500.0), 500.0)));
  }

  void judge_by_score() {
    frames_below_ = now_.score < options_.lost_score ? frames_below_ + 1 : 0;
    if (frames_below_ >= options_.lost_frames)
      now_.found = false;
    else if (now_.score >= options_.found_score)
      now_.found = true;
  }

  void remember_best(const cv::Mat& frame) {
    if (options_.update_interval == 0) return;
    if (now_.score > best_score_) {
      best_template_ = template_of(frame);
      best_score_ = now_.score;
    }
    if (++interval_frames_ < options_.update_interval) return;
    if (best_template_.data != online_template_.data) {
      online_template_ = best_template_;
      start_templates();
    }
    start_interval();
  }

  void start_interval() {
    interval_frames_ = 0;
    best_template_ = initial_template_;
    best_score_ = options_.update_score;
  }

  cv::Mat template_of(const cv::Mat& frame) const {
    return crop_square(frame, now_.box, options_.template_factor, template_size_px_).pixels;
  }

  // The template graph runs while the caller waits for the next frame.
  void start_templates() {
    turn_ = 1 - turn_;
    auto templates = template_requests_[turn_].get_tensor("templates");
    copy_pixels(initial_template_, templates, 0);
    copy_pixels(online_template_, templates, 1);
    template_requests_[turn_].start_async();
    templates_pending_ = true;
  }

  void wait_for_templates() {
    if (!templates_pending_) return;
    template_requests_[turn_].wait();
    search_request_.set_tensor("template_kv", template_requests_[turn_].get_tensor("template_kv"));
    templates_pending_ = false;
  }

  Options options_;
  int template_size_px_ = 0, search_size_px_ = 0, bins_ = 0;
  ov::Core core_;
  std::array<ov::InferRequest, 2> template_requests_;
  ov::InferRequest search_request_;
  int turn_ = 0;
  bool templates_pending_ = false;

  std::optional<PresenceModel> presence_model_;
  Look first_look_;
  std::optional<double> log_odds_mean_;

  Result now_;
  long frames_below_ = 0, interval_frames_ = 0;
  cv::Mat initial_template_, online_template_, best_template_;
  double best_score_ = 0;
};

}  // namespace edge_tracker
